"""What a release board reads: the page, its pictures and the model card, all made from one `Evidence` record."""

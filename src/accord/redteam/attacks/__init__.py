"""One file an attack; `--attack NAME` is the module's class or function of that name."""

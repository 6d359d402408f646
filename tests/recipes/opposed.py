"""Two rewards of one's own that are each other's opposite, as a user's file holds them."""

MINE = """
def odd(transcript):
    text = transcript.answer
    return sum(ord(c) % 2 for c in text) / len(text) if text else 0.0

def even(transcript):
    return 1 - odd(transcript)
"""

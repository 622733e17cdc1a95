"""A web page on this machine: a sound is dropped or recorded, its caption shown, chosen or changed, and drawn.

`python -m a2i.app` starts it. Nothing is sent to other machines, and no sound is kept.
"""

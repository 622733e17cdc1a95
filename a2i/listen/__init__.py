"""The microphone, or a file played in real time in its place → a caption every few seconds, and a picture of each new scene.

`python -m a2i.listen` is the entry point. `sources` fills a bounded memory of the newest seconds, `live` captions them on a
schedule, and `pictures` draws beside it.
"""

"""A2S2K-ResNet (Roy, Manna, Song, Bruzzone, IEEE TGRS 2021)."""

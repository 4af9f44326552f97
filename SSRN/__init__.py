"""SSRN (Zhong, Li, Luo, Chapman, IEEE TGRS 2018)."""

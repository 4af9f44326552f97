"""SVM with RBF kernel on single spectra (Melgani & Bruzzone, IEEE TGRS 2004): the baseline."""

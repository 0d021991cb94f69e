// A libcublasLt.so.12 that is too old.

unsigned long cublasLtGetVersion(void) { return 120804; }

#include "CLinux.h"
int outrigger_linux_shim_version(void) { return 1; }

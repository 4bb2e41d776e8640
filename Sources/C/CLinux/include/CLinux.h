#ifndef OUTRIGGER_CLINUX_H
#define OUTRIGGER_CLINUX_H
// Placeholder until Reactor lands its shims.
int outrigger_linux_shim_version(void);
#endif

"""Stops one thread of a process in the middle of a turn of its loop, without the process knowing: hold_thread.py PID THREAD SECONDS.

It traces the thread (ptrace) until that reads from a descriptor, prints "held", and lets go after the time. x86-64 only.
"""
import ctypes
import os
import sys
import time

SYSCALL, PEEKUSER, DETACH, SEIZE, INTERRUPT = 24, 3, 17, 0x4206, 0x4207
ORIG_RAX = 8 * 15
READ = 0
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread, address=None):
    ctypes.set_errno(0)
    result = libc.ptrace(request, thread, address, None)
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def find(process, name):
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/comm") as file:
            if file.read().strip() == name:
                return int(thread)
    raise SystemExit(f"no thread {name}")


def main():
    process, name, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    thread = find(process, name)
    ptrace(SEIZE, thread)
    ptrace(INTERRUPT, thread)
    print("attached", flush=True)
    while True:
        os.waitpid(thread, WALL)
        if ptrace(PEEKUSER, thread, ORIG_RAX) == READ:
            break
        ptrace(SYSCALL, thread)
    print("held", flush=True)
    time.sleep(seconds)
    ptrace(DETACH, thread)


main()

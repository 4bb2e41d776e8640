import Daemon

DaemonProgram.start()

import Glibc
import Proxy

exit(ProxyProgram.run(arguments: Array(CommandLine.arguments.dropFirst())))

import Base
import Reactor

final class AdminServer {
    init(supervisor: Supervisor, address: SocketAddress) throws(SystemError) {}
}

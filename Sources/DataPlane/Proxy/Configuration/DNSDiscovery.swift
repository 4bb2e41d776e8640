import Base
import Reactor

final class DNSDiscovery {
    init(loop: EventLoop, announce: @escaping (RuntimeCluster) -> Void) {}
    func follow(_ snapshot: RuntimeSnapshot) {}
}

import Base
import HTTPTransport
import ProxyConfig
import Reactor
import Resilience

/// Connects, again and again and without a request, to those endpoints of a cluster that are out because nobody could connect to them:
/// one that opens ends the waiting. Ends by itself when no such endpoint is left.
final class Reconnections {
    var shared: RuntimeCluster
    private let loop: EventLoop
    private let slots: ProbeSlots
    private let buffers: LinkBuffers
    private let ended: () -> Void
    private var probes: [SocketAddress: Probe] = [:]
    private var timer: LoopTimer!

    init(_ shared: RuntimeCluster, loop: EventLoop, slots: ProbeSlots, buffers: LinkBuffers, ended: @escaping () -> Void) {
        self.shared = shared
        self.loop = loop
        self.slots = slots
        self.buffers = buffers
        self.ended = ended
        timer = LoopTimer { [unowned self] _ in turn() }
        // Not at once: it has just been tried.
        arm()
    }

    func stop() {
        loop.cancelDeadline(timer)
        for probe in probes.values { probe.cancel() }
        probes = [:]
    }

    private func arm() {
        // Where the policy is another by now, what is under way ends first.
        loop.setDeadline(timer, loop.now + (shared.detector.connectionProbeInterval ?? .milliseconds(100)))
    }

    private func turn() {
        let wanted = shared.detector.connectionProbeInterval == nil ? [] : shared.detector.unconnectable
        guard !wanted.isEmpty || !probes.isEmpty else {
            stop()
            return ended()
        }
        let hosts = Dictionary(shared.hosts.hosts.map { ($0.address, $0) }, uniquingKeysWith: { first, _ in first })
        for health in wanted {
            guard probes[health.address] == nil, let host = hosts[health.address], host.health === health else { continue }
            connect(to: host)
        }
        arm()
    }

    private func connect(to host: Host) {
        let probe = Probe(
            loop: loop, cluster: shared, host: host, request: .connection,
            timeout: Nanoseconds(shared.configuration.connectTimeout), buffers: buffers
        ) { [unowned self] end in
            probes[host.address] = nil
            if end.result == .passed { shared.detector.checkPassed(host.health, now: loop.now) }
        }
        probes[host.address] = probe
        slots.run(probe)
    }
}

import Base
import HTTPTransport
import ProxyConfig
import Reactor
import Resilience
import Transport

/// One look at an endpoint, from the connection to the answer, in a limited time.
final class Probe: Timed {
    let loop: EventLoop
    private let cluster: RuntimeCluster
    private let host: Host
    private let port: Port
    private let request: ProbeRequest
    private let timeout: Nanoseconds
    private let buffers: LinkBuffers
    private let done: (ProbeEnd) -> Void
    /// Of an earlier probe, or this one's own; after the end to be kept, if it is usable.
    private(set) var connection: ProbeConnection?
    private var began = Instant(nanoseconds: 0)
    /// Told by its slots when it is over.
    var slotEnded: (() -> Void)?
    private(set) var isOver = false

    /// - Parameters:
    ///   - port: nil = where requests go.
    ///   - connection: that may be used again.
    ///   - done: called once, but not after `cancel`.
    init(
        loop: EventLoop, cluster: RuntimeCluster, host: Host, port: Port? = nil, request: ProbeRequest, timeout: Nanoseconds,
        connection: ProbeConnection? = nil, buffers: LinkBuffers, done: @escaping (ProbeEnd) -> Void
    ) {
        self.loop = loop
        self.cluster = cluster
        self.host = host
        self.port = port ?? host.address.port
        self.request = request
        self.timeout = timeout
        self.connection = connection
        self.buffers = buffers
        self.done = done
    }

    /// So long it took.
    var elapsed: Nanoseconds { loop.now - began }

    func begin() {
        began = loop.now
        loop.setDeadline(self, loop.now + timeout)
        // Certificates may have been renewed since the connection was made.
        if let connection, connection.isUsable, connection.tls?.context === (usesTLS ? cluster.tls?.context : nil) {
            return ask(connection)
        }
        connection?.giveUp()
        open(inPlaintext: !usesTLS)
    }

    func cancel() {
        guard !isOver else { return }
        isOver = true
        loop.cancelDeadline(self)
        connection?.giveUp()
        connection = nil
        let slotEnded = self.slotEnded
        self.slotEnded = nil
        slotEnded?()
    }

    private var usesTLS: Bool {
        guard let tls = cluster.configuration.tls else { return false }
        return !(host.isPlaintext && tls.sparesPlaintextEndpoints)
    }

    private func open(inPlaintext: Bool) {
        var session: TLSSession?
        if !inPlaintext {
            guard let context = cluster.tls?.context else {
                return end(ProbeEnd(result: nil, seen: "no TLS: \(cluster.tls?.problem ?? "its context is not loaded")"))
            }
            let name = cluster.configuration.tls?.sni ?? (host.hostname.isEmpty ? nil : host.hostname)
            session = TLSSession(client: context, serverName: name)
        }
        do throws(SystemError) {
            let (descriptor, isConnected) = try Socket.connect(to: SocketAddress(host.address.ip, port))
            let link = ProbeConnection(adopting: descriptor, isConnected: isConnected, tls: session, loop: loop, buffers: buffers)
            do throws(SystemError) {
                try loop.add(link)
            } catch {
                Socket.close(descriptor)
                throw error
            }
            connection = link
            ask(link)
            link.start()
        } catch {
            let words = "\(error)"
            // Without a descriptor for it the endpoint was never asked.
            end(
                ProbeEnd(
                    result: error.isExhaustion ? nil : .unreachable, seen: words.prefix(1).lowercased() + words.dropFirst()))
        }
    }

    private func ask(_ link: ProbeConnection) {
        link.ask(request) { [unowned self] in answered($0) }
    }

    private func answered(_ answer: ProbeEnd) {
        switch answer.again {
        case .onNewConnection: open(inPlaintext: !usesTLS)
        case .inPlaintext where cluster.configuration.tls?.isEnforced == false: open(inPlaintext: true)
        case .inPlaintext, nil: end(answer)
        }
    }

    override func deadlineReached(now: Instant) {
        let stage = connection?.isOpen == true ? "no answer" : "no connection"
        connection?.giveUp()
        end(ProbeEnd(result: .timedOut, seen: "\(stage) within \(timeout.milliseconds) ms"))
    }

    private func end(_ end: ProbeEnd) {
        guard !isOver else { return }
        isOver = true
        loop.cancelDeadline(self)
        if connection?.isUsable == false { connection = nil }
        let slotEnded = self.slotEnded
        self.slotEnded = nil
        done(end)
        slotEnded?()
    }
}

/// How many probes run at once in the process; the others wait for a place, in the order they came.
final class ProbeSlots {
    /// A probe that hangs takes one for its timeout. A thousand endpoints with the shortest interval that App Mesh allows are 200 probes a
    /// second, of some milliseconds each.
    static let limit = 64

    private let limit: Int
    private var waiting: [Probe] = []
    private var next = 0
    private(set) var running = 0
    private var isFilling = false

    init(limit: Int = ProbeSlots.limit) {
        self.limit = limit
    }

    func run(_ probe: Probe) {
        waiting.append(probe)
        fill()
    }

    /// Those that end within `begin` would otherwise begin others within each other.
    private func fill() {
        guard !isFilling else { return }
        isFilling = true
        while running < limit, next < waiting.count {
            let probe = waiting[next]
            next += 1
            guard !probe.isOver else { continue }
            running += 1
            probe.slotEnded = { [unowned self] in
                running -= 1
                fill()
            }
            probe.begin()
        }
        if next == waiting.count {
            waiting.removeAll(keepingCapacity: waiting.capacity <= 1024)
            next = 0
        } else if next > 1024 {
            waiting.removeFirst(next)
            next = 0
        }
        isFilling = false
    }
}

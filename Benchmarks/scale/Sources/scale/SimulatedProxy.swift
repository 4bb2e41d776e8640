import Base
import HTTPClient
import ProxyConfig
import Reactor
import XDSClient
import XDSWire

/// A managed proxy as its control plane sees it: it takes whatever comes at once, and reports. It has no listeners and no workers.
final class SimulatedProxy {
    let index: Int
    private(set) var state = NodeReport.State.initializing
    /// What it runs.
    private(set) var snapshot: Snapshot?
    private(set) var clusters: [String: Cluster] = [:]
    private(set) var assignments: [String: ClusterLoadAssignment] = [:]
    /// When it last said that it has taken something.
    private(set) var lastAck = Instant(nanoseconds: 0)
    /// On this connection.
    private(set) var responses = 0
    private(set) var receivedBytes = 0
    private(set) var isConnecting = false
    /// It runs what this connection has said last, and waits for nothing.
    private(set) var isSynced = false
    /// It runs something else, and the acknowledgements are sent.
    var onTaken: (() -> Void)?

    private let loop: EventLoop
    private let node: ClientNode
    private let startedAt = Clock.realtime() / 1_000_000
    private var client: ADSClient
    private var version: String?
    private var connection: HTTPClientConnection?
    private var discovery: GRPCClientStream?
    private var reports: GRPCClientStream?
    private var isFirstReport = true
    private var interval = Nanoseconds.seconds(5)
    private var requests: UInt64 = 0
    private var reportTimer: LoopTimer!
    private var clientTimer: LoopTimer!
    private var actions: [ADSClient.Action] = []
    private var isPerforming = false
    private var hasTaken = false

    static let discoveryPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    static let reportPath = "/outrigger.v1.Reports/Stream"
    /// As the proxy does: changes that come together are reported together.
    static let reportDelay = Nanoseconds.milliseconds(20)

    init(_ index: Int, name: String, loop: EventLoop) {
        self.index = index
        self.loop = loop
        // An address for each, so that every endpoint is another one.
        let address = IPAddress.v4(10 << 24 | UInt32(index))
        node = ClientNode(name: name, namespace: RingMesh.namespace, instance: "a", address: address)
        client = ADSClient(node: node, identity: Node(mesh: "-", role: .virtualNode, name: name), defaults: ProcessSettings())
        reportTimer = LoopTimer { [unowned self] _ in report() }
        clientTimer = LoopTimer { [unowned self] now in perform(client.deadlineReached(now: now)) }
    }

    // MARK: Connection

    /// - Parameter failed: gets why there is no connection.
    func connect(to address: SocketAddress, failed: @escaping (String) -> Void) {
        isConnecting = true
        responses = 0
        receivedBytes = 0
        var limits = HTTPClientLimits()
        // A control plane that is busy with a thousand others is not gone.
        limits.connectTimeout = .seconds(60)
        limits.pingInterval = .zero
        let connection = HTTPClientConnection(loop: loop, address: address, limits: limits)
        connection.onOpen = { [unowned self] in opened(address) }
        connection.onClosed = { [unowned self] failure in
            disconnect()
            failed("\(failure)")
        }
        self.connection = connection
        connection.open()
    }

    func disconnect() {
        isConnecting = false
        isSynced = false
        loop.cancelDeadline(reportTimer)
        loop.cancelDeadline(clientTimer)
        client.streamClosed()
        discovery?.cancel()
        reports?.cancel()
        (discovery, reports) = (nil, nil)
        connection?.onClosed = nil
        connection?.close()
        connection = nil
    }

    private func opened(_ address: SocketAddress) {
        guard let connection else { return }
        isConnecting = false
        let authority = "\(address)"
        let discovery = GRPCClientStream(connection, path: Self.discoveryPath, authority: authority)
        discovery.onMessage = { [unowned self] message in
            responses += 1
            receivedBytes += message.count
            perform(client.receive(message, now: loop.now))
        }
        self.discovery = discovery
        perform(client.streamOpened(.delta, now: loop.now))
        let reports = GRPCClientStream(connection, path: Self.reportPath, authority: authority)
        reports.onMessage = { [unowned self] message in
            if let reply = try? ReportReply(decoding: message), reply.interval > 0 { interval = .milliseconds(Int64(reply.interval)) }
        }
        self.reports = reports
        isFirstReport = true
        report()
    }

    // MARK: Configuration

    private func perform(_ more: [ADSClient.Action]) {
        actions += more
        guard !isPerforming else { return }
        isPerforming = true
        while !actions.isEmpty {
            switch actions.removeFirst() {
            case .sendDelta(let request):
                if !request.responseNonce.isEmpty { lastAck = Clock.now() }
                discovery?.send(request.encoded())
            case .send: Failure.stop("\(node.name) asks for the state of the world on a stream of delta")
            case .offer(let offer): take(offer)
            case .refused(let refusal): Failure.stop("\(node.name) refuses: \(refusal.reason)")
            case .endStream(let reason): Failure.stop("\(node.name): \(reason)")
            case .tell, .silence: break
            }
        }
        isPerforming = false
        loop.setDeadline(clientTimer, client.deadline)
        isSynced = client.isSettled && discovery != nil && responses > 0
        if hasTaken {
            hasTaken = false
            onTaken?()
        }
    }

    private func take(_ offer: ADSClient.Offer) {
        snapshot = offer.snapshot
        version = SnapshotFile.version(of: offer.snapshot)
        clusters = Dictionary(uniqueKeysWithValues: offer.snapshot.clusters.map { ($0.name, $0) })
        assignments = Dictionary(uniqueKeysWithValues: offer.snapshot.loadAssignments.map { ($0.clusterName, $0) })
        actions += client.offerTaken(now: loop.now)
        if state == .initializing { state = .live }
        hasTaken = true
        reportSoon()
    }

    // MARK: Reports

    /// Says at once that it drains, or serves.
    func set(_ state: NodeReport.State) {
        self.state = state
        report()
    }

    private func reportSoon() {
        guard reports != nil else { return }
        loop.setDeadline(reportTimer, loop.now + Self.reportDelay)
    }

    /// With some traffic to each backend: 100 requests a report.
    private func report() {
        guard let reports else { return }
        loop.setDeadline(reportTimer, loop.now + interval)
        requests += 100
        var buckets = [UInt64](repeating: 0, count: ReportedHistogram.bucketCount)
        for index in 60..<70 { buckets[index] = requests / 10 }
        let latency = ReportedHistogram(lowestExponent: 11, buckets: buckets, sum: requests * 1_000_000, largest: 2_000_000)
        let now = Clock.realtime() / 1_000_000
        let report = NodeReport(
            node: isFirstReport ? node : nil, state: state, startedAt: startedAt, reportedAt: now,
            applied: version.map { NodeReport.Applied(version: $0, at: now) },
            clusters: clusters.keys.sorted().map { ClusterReport(name: $0, requests: requests, latency: latency) })
        isFirstReport = false
        reports.send(report.encoded())
    }
}

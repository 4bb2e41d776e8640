import Base
import HTTP
import HTTPClient
import ProxyConfig
import Reactor
import Resolver
import Telemetry
import Transport
import XDSClient
import XDSWire

/// What a link to the control plane needs of the process: `Supervisor`, or a test.
protocol ManagedProcess: AnyObject {
    /// Runs it, or says what is wrong with it; in either case by `offerTaken` or `offerRefused` of the link, now or later.
    func take(_ offer: ADSClient.Offer)
    /// Responses were refused, before anything was offered or because of what `offerRefused` said.
    func refused(_ refusal: ADSClient.Refusal)
    /// What a report says, the node left out.
    func report() -> NodeReport
}

/// The tie of a managed proxy to its control plane, on the supervisor's loop: one HTTP/2 connection, on it the ADS stream, by which
/// configuration comes, and the stream of reports.
///
/// Nothing that happens here stops the proxy: it serves what it has, and tries again.
final class ControlPlaneLink {
    /// How far it is.
    enum Phase: Equatable {
        /// Nothing was tried yet, or the next attempt comes at the given time.
        case waiting(until: Instant)
        case resolving
        case connecting(SocketAddress)
        case connected(SocketAddress, since: Instant)
    }

    let options: ControlPlaneOptions
    private(set) var phase = Phase.waiting(until: .never)
    /// Why the last connection, or attempt, ended.
    private(set) var lastFailure: String?
    /// Of attempts and connections since the start.
    private(set) var connects: UInt64 = 0
    private(set) var failures: UInt64 = 0
    /// Responses accepted and refused, by type.
    private(set) var accepted: [DiscoveredType: UInt64] = [:]
    private(set) var rejected: [DiscoveredType: UInt64] = [:]
    /// Of the last stream.
    private(set) var variant = ADSClient.Variant.delta
    /// The stream is open, and the control plane says nothing.
    private(set) var isSilent = false
    /// Why there are no reports; nil = there are.
    private(set) var reportProblem: String?

    /// The certificate of its own, if it has one or is to get one.
    let identity: ProxyIdentity?

    private let loop: EventLoop
    private unowned let process: any ManagedProcess
    private let log: ProcessLog
    private let resolve: (String, @escaping Resolver.Completion) -> Void
    private var client: ADSClient
    private var reconnection: Reconnection
    private var connection: HTTPClientConnection?
    private var discovery: GRPCClientStream?
    private var reports: GRPCClientStream?
    private var actions: [ADSClient.Action] = []
    private var isPerforming = false
    private var isAnswered = false
    private var isStopped = false
    private var countedNonces: [String: String] = [:]
    /// When the control plane's wish was last known to be what runs.
    private var confirmedAt: Instant?
    private var reportInterval = ControlPlaneLink.defaultReportInterval
    private var nextReport = Instant.never
    private var isFirstReport = true
    /// A dead control plane is noticed within 15 s, unless it does not allow so many questions.
    private var pingInterval = Nanoseconds.seconds(10)
    private var connectTimer: LoopTimer!
    private var clientTimer: LoopTimer!
    private var reportTimer: LoopTimer!

    static let worldPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    static let deltaPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    static let reportPath = "/outrigger.v1.Reports/Stream"
    /// A snapshot of ten thousand services is some 30 MB; beyond this it is not configuration any more.
    static let maxDiscoveryBytes = 128 << 20
    static let maxReplyBytes = 64 * 1024
    static let defaultReportInterval = Nanoseconds.seconds(5)
    /// What the control plane may ask for.
    static let reportIntervals = Nanoseconds.milliseconds(100)...Nanoseconds.seconds(600)
    /// Changes that come together are reported together.
    static let reportDelay = Nanoseconds.milliseconds(20)
    /// A control plane that ended the stream of reports is asked again so much later.
    static let reportRetry = Nanoseconds.seconds(30)
    static let rarePingInterval = Nanoseconds.seconds(310)
    /// More unread reports than that, and the next is left out: counters are absolute, nothing is lost.
    static let maxUnreadReportBytes = 1 << 20

    /// - Parameters:
    ///   - defaults: how the process runs until the control plane says otherwise.
    ///   - identity: nil = it is known by files, or not at all.
    ///   - resolve: looks the control plane's name up.
    init(
        options: ControlPlaneOptions, defaults: ProcessSettings, loop: EventLoop, process: any ManagedProcess, seed: UInt64,
        identity: ProxyIdentity? = nil, log: ProcessLog = .standard, resolve: @escaping (String, @escaping Resolver.Completion) -> Void
    ) {
        self.options = options
        self.loop = loop
        self.process = process
        self.log = log
        self.resolve = resolve
        self.identity = identity
        client = ADSClient(
            node: options.node, identity: options.identity, defaults: defaults,
            ownSecrets: identity == nil ? [] : [Secret.identityName])
        reconnection = Reconnection(seed: seed)
        connectTimer = LoopTimer { [unowned self] _ in connect() }
        identity?.link = self
        clientTimer = LoopTimer { [unowned self] now in perform(client.deadlineReached(now: now)) }
        reportTimer = LoopTimer { [unowned self] _ in report() }
    }

    deinit {
        for timer in [connectTimer, clientTimer, reportTimer] { loop.cancelDeadline(timer!) }
    }

    func start() {
        connect()
    }

    /// Ends the connection and makes no other.
    func stop() {
        isStopped = true
        loop.setDeadline(connectTimer, .never)
        connection?.close()
    }

    // MARK: What is known

    var isConnected: Bool { if case .connected = phase { isAnswered } else { false } }

    /// What the configuration that came so far waits for.
    var missing: [ResourceReference] { client.missing }

    /// Since when the control plane has not said that what runs is what it wants; `now` while it does, nil where it never did.
    func confirmed(now: Instant) -> Instant? {
        isConnected && client.isSettled ? now : confirmedAt
    }

    // MARK: Connecting

    private func connect() {
        guard !isStopped else { return }
        if reconnection.roundIsOver {
            if let ip = IPAddress(options.host) {
                reconnection.beginRound([SocketAddress(ip, options.port)])
            } else {
                phase = .resolving
                return resolve(options.host) { [unowned self] result in resolved(result) }
            }
        }
        connectToNext()
    }

    private func resolved(_ result: Result<Answer, ResolveError>) {
        guard !isStopped else { return }
        switch result {
        case .success(let answer):
            reconnection.beginRound(answer.addresses.map { SocketAddress($0, options.port) })
            connectToNext()
        case .failure(let error): failed("\(options.host) cannot be resolved: \(error)")
        }
    }

    private func connectToNext() {
        guard let address = reconnection.nextAddress() else { return failed("\(options.host) has no address") }
        phase = .connecting(address)
        connects += 1
        let context: TLSContext?
        do {
            context = try makeContext(address)
        } catch {
            return failed(error.text)
        }
        let connection = HTTPClientConnection(loop: loop, address: address, tls: context, serverName: options.host, limits: limits)
        connection.onOpen = { [unowned self] in opened(address) }
        connection.onClosed = { [unowned self] failure in failed("\(failure)") }
        self.connection = connection
        connection.open()
    }

    private var limits: HTTPClientLimits {
        var limits = HTTPClientLimits()
        limits.pingInterval = pingInterval
        limits.pingTimeout = .seconds(5)
        return limits
    }

    /// Where the control plane is, while there is a connection.
    var address: SocketAddress? { if case .connected(let address, _) = phase { address } else { nil } }

    /// Made anew for each attempt: certificates are renewed under a running process.
    func makeContext(_ address: SocketAddress) throws(UsageError) -> TLSContext? {
        guard let tls = options.tls else {
            guard address.ip.isLoopback || options.allowsPlaintext else {
                throw UsageError(text: ControlPlaneOptions.plaintextRefused("\(address)"))
            }
            return nil
        }
        let own = identity?.usable.map { CertificateSource.file(chain: $0, privateKey: $0) }
        do {
            return try TLSContext.client(
                UpstreamTLS(
                    validation: TLSValidation(trust: .file(tls.authorities), subjectAlternativeNames: [tls.name]),
                    certificate: tls.certificate.map { .file(chain: $0.chain, privateKey: $0.privateKey) } ?? own, alpn: ["h2"]),
                now: Clock.realtime() / 1_000_000_000, files: FileReader.read)
        } catch {
            throw UsageError(text: "\(error)")
        }
    }

    private func opened(_ address: SocketAddress) {
        guard let connection else { return }
        phase = .connected(address, since: loop.now)
        reconnection.opened(now: loop.now)
        isAnswered = false
        log.info("xds", "connected to the control plane at \(address)")
        openDiscovery(.delta, connection)
        openReports()
        identity?.controlPlaneCame()
    }

    private func openDiscovery(_ variant: ADSClient.Variant, _ connection: HTTPClientConnection) {
        let stream = GRPCClientStream(
            connection, path: variant == .delta ? Self.deltaPath : Self.worldPath, authority: options.authority,
            maxMessageBytes: Self.maxDiscoveryBytes)
        stream.onMessage = { [unowned self] message in received(message) }
        stream.onFinished = { [unowned self] end in discoveryEnded(variant, end) }
        discovery = stream
        self.variant = variant
        perform(client.streamOpened(variant, now: loop.now))
    }

    /// A control plane that knows no delta says so at once; each connection asks anew, for it may be another program by then.
    private func discoveryEnded(_ variant: ADSClient.Variant, _ end: GRPC.Failure) {
        guard variant == .delta, end.status == GRPC.Status.unimplemented, !isAnswered, let connection, connection.isUsable else {
            return lose("the ADS stream has ended: \(end)")
        }
        log.info("xds", "the control plane knows no delta (\(end)): going on with state of the world")
        client.streamClosed()
        openDiscovery(.stateOfTheWorld, connection)
    }

    /// The connection is of no use any more.
    private func lose(_ reason: String) {
        guard let connection else { return }
        connection.onClosed = nil
        failed(reason)
        connection.close()
    }

    /// A connection, or the attempt at one, has ended.
    private func failed(_ reason: String) {
        noteConfirmation()
        let wasConnected = isConnected
        connection = nil
        discovery?.cancel()
        discovery = nil
        reports?.cancel()
        reports = nil
        loop.setDeadline(reportTimer, .never)
        isSilent = false
        client.streamClosed()
        isAnswered = false
        failures += 1
        // "too_many_pings" (gRPC proposal A8): servers of gRPC allow one in five minutes unless they are told otherwise.
        if reason.contains("enhance_your_calm") { pingInterval = Self.rarePingInterval }
        guard !isStopped else { return }
        let next = reconnection.ended(now: loop.now)
        phase = .waiting(until: next)
        loop.setDeadline(connectTimer, next)
        armClient()
        let wait = "trying again in \((next - loop.now).milliseconds) ms"
        if wasConnected {
            log.warning("xds", "lost the control plane at \(options.authority): \(reason); serving on, \(wait)")
        } else if reason != lastFailure || reconnection.failures.isPowerOfTwo {
            // The same again is worth a line when it has lasted twice as long.
            log.warning("xds", "no control plane at \(options.authority): \(reason); attempt \(reconnection.failures), \(wait)")
        }
        lastFailure = reason
    }

    // MARK: Configuration

    private func received(_ message: [UInt8]) {
        noteConfirmation()
        if !isAnswered {
            isAnswered = true
            lastFailure = nil
            reconnection.answered()
        }
        isSilent = false
        perform(client.receive(message, now: loop.now))
    }

    /// The last offer runs.
    func offerTaken() {
        perform(client.offerTaken(now: loop.now))
    }

    func offerRefused(_ problems: [ADSClient.Problem]) {
        perform(client.offerRefused(problems, now: loop.now))
    }

    /// What stood in the way of the last refused offer may be gone.
    func retryRefused() {
        perform(client.retryRefused(now: loop.now))
    }

    private func perform(_ more: [ADSClient.Action]) {
        actions += more
        // What an action leads to comes after what was decided before it.
        guard !isPerforming else { return }
        isPerforming = true
        while !actions.isEmpty { perform(actions.removeFirst()) }
        isPerforming = false
        armClient()
    }

    private func perform(_ action: ADSClient.Action) {
        switch action {
        case .send(let request):
            count(request.typeURL, request.responseNonce, isRefusal: request.errorDetail != nil)
            discovery?.send(request.encoded())
        case .sendDelta(let request):
            count(request.typeURL, request.responseNonce, isRefusal: request.errorDetail != nil)
            discovery?.send(request.encoded())
        case .offer(let offer):
            if !offer.gaps.isEmpty {
                let names = offer.gaps.prefix(10).map(\.description).joined(separator: ", ")
                log.warning("xds", "not delivered within \(Int(ADSClient.patience.seconds)) s, going on without: \(names)")
            }
            process.take(offer)
        case .refused(let refusal):
            process.refused(refusal)
            reportSoon()
        case .endStream(let reason): lose("the control plane does not speak the protocol: \(reason)")
        case .tell(let text): log.warning("xds", text)
        case .silence:
            isSilent = true
            log.warning(
                "xds", "the control plane has said nothing for \(Int(ADSClient.patience.seconds)) s: does it know \(options.node.id)?")
        }
    }

    private func count(_ typeURL: String, _ nonce: String, isRefusal: Bool) {
        guard let type = DiscoveredType(typeURL: typeURL), !nonce.isEmpty else { return }
        if isRefusal {
            rejected[type, default: 0] += 1
        } else if countedNonces.updateValue(nonce, forKey: typeURL) != nonce {
            accepted[type, default: 0] += 1
        }
    }

    private func noteConfirmation() {
        if isConnected, client.isSettled { confirmedAt = loop.now }
    }

    private func armClient() {
        loop.setDeadline(clientTimer, client.deadline)
    }

    // MARK: Reports

    private func openReports() {
        guard let connection else { return }
        let stream = GRPCClientStream(
            connection, path: Self.reportPath, authority: options.authority, maxMessageBytes: Self.maxReplyBytes)
        stream.onMessage = { [unowned self] message in replied(message) }
        stream.onFinished = { [unowned self] end in reportsEnded(end) }
        reports = stream
        reportProblem = nil
        isFirstReport = true
        report()
    }

    private func replied(_ message: [UInt8]) {
        do {
            let reply = try ReportReply(decoding: message)
            guard reply.interval > 0 else { return }
            let wanted = Nanoseconds.milliseconds(Int64(clamping: min(reply.interval, 1 << 40)))
            reportInterval = min(max(wanted, Self.reportIntervals.lowerBound), Self.reportIntervals.upperBound)
            nextReport = min(nextReport, loop.now + reportInterval)
            loop.setDeadline(reportTimer, nextReport)
        } catch {
            log.warning("xds", "an answer to a report is not understood: \(error)")
        }
    }

    /// The ADS stream goes on: another control plane than ours knows no reports.
    private func reportsEnded(_ end: GRPC.Failure) {
        reports = nil
        if reportProblem != end.description { log.info("xds", "the control plane takes no reports: \(end)") }
        reportProblem = end.description
        guard end.status != GRPC.Status.unimplemented else { return loop.setDeadline(reportTimer, .never) }
        loop.setDeadline(reportTimer, loop.now + Self.reportRetry)
    }

    /// Something changed that the control plane should know now.
    func reportSoon() {
        guard reports != nil else { return }
        nextReport = min(nextReport, loop.now + Self.reportDelay)
        loop.setDeadline(reportTimer, nextReport)
    }

    private func report() {
        guard let stream = reports else {
            if connection?.isUsable == true { openReports() }
            return
        }
        nextReport = loop.now + reportInterval
        loop.setDeadline(reportTimer, nextReport)
        guard stream.queuedBytes < Self.maxUnreadReportBytes else { return }
        var report = process.report()
        if isFirstReport { report.node = options.node }
        isFirstReport = false
        stream.send(report.encoded())
    }
}

extension Int {
    fileprivate var isPowerOfTwo: Bool { self > 0 && self & (self - 1) == 0 }
}

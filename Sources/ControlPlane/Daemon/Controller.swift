import Base
import EventStore
import Foundation
import HTTPServer
import MeshCompiler
import MeshModel
import Projections
import ProxyConfig
import Reactor
import Rollout
import Telemetry
import Transport
import XDSServer
import XDSWire

/// The control plane at work: what users want comes in as commands, is recorded, compiled and pushed; what proxies report comes back.
///
/// Everything here happens on the loop's thread. The disk and the compiler have threads of their own (`Workshop`).
final class Controller {
    struct Options {
        /// A proxy whose reports have stopped so long is no endpoint any more.
        var lostAfter = Nanoseconds.seconds(15)
        var reportInterval = Nanoseconds.seconds(5)
        /// The caller of this API on this machine may do everything without a token.
        var trustsLoopback = true
        var proof = Proof.remote
    }

    /// From which proxies a certificate is wanted that says whose they are; the others are whose they say.
    enum Proof: String, CaseIterable {
        case always
        /// Of those that are not on this machine.
        case remote
        case never
    }

    let loop: EventLoop
    let options: Options
    let journal: Journal
    let publisher: Publisher
    let fleet = Fleet()
    let workshop: Workshop
    /// Warnings that callers can cause at will.
    let strangers: LimitedLog
    let started = UnixTime.now
    private(set) var traffic = TrafficWindow()
    private(set) var ads: ADSService!
    private(set) var reports: ReportService!
    private(set) var rollouts: RolloutDriver!
    private(set) var commands: CommandQueue!
    private var timers: [InstanceKey: LoopTimer] = [:]
    private(set) var subjects = SubjectIndex()
    private var knownServices: [String: String] = [:]
    private var knownPorts: [MeshCompiler.Subject: [Base.Port: Base.Port]] = [:]
    private var unknownClients: Set<String> = []

    /// What we call ourselves in xDS.
    let name = "outriggerd"

    init(loop: EventLoop, journal: Journal, workshop: Workshop, options: Options) {
        self.loop = loop
        self.journal = journal
        self.workshop = workshop
        strangers = LimitedLog(loop)
        self.options = options
        publisher = Publisher(compiler: workshop)
        ads = ADSService(self)
        reports = ReportService(self)
        rollouts = RolloutDriver(self)
        commands = CommandQueue(self)
        publisher.endpoints = { [unowned self] node in registeredEndpoints(of: node) }
        publisher.onChange = { [unowned self] targets in ads.configurationsChanged(targets) }
        journal.onEvents = { [unowned self] events in happened(events) }
        resume()
    }

    /// The mesh as it is wanted now.
    var mesh: MeshResources { journal.models.desired.mesh }

    // MARK: Start

    /// What was before this process began goes on: proxies stay endpoints until they are known to be gone, rollouts continue.
    private func resume() {
        takeMesh()
        for instance in journal.models.nodes.instances.values where instance.state != .left {
            startLosing(instance.key, after: max(options.lostAfter, Self.returnTime))
        }
        let nodes = Set(journal.models.endpoints.nodesWithEndpoints.compactMap(\.resource).filter { $0.kind == .virtualNode })
        publisher.endpointsChanged(of: nodes, registered: nodes)
        rollouts.resume()
        takeOverrides()
    }

    // MARK: What was recorded

    private func happened(_ events: [StoredEvent]) {
        var meshChanged = false
        var overridesChanged = false
        var nodes: Set<MeshModel.ResourceKey> = []
        for stored in events {
            guard let event = try? MeshEvent(stored) else { continue }
            switch event {
            case .resourceApplied, .resourceDeleted, .namespaceApplied, .namespaceDeleted: meshChanged = true
            case .breakerForced, .breakerReleased: overridesChanged = true
            case .nodeRegistered(let node): if let key = node.node.resource, key.kind == .virtualNode { nodes.insert(key) }
            case .nodeReady(let change), .nodeDraining(let change), .nodeLeft(let change):
                if let key = change.instance.node.resource, key.kind == .virtualNode { nodes.insert(key) }
            default: break
            }
        }
        if meshChanged {
            takeMesh()
            ads.meshChanged()
        }
        if overridesChanged { takeOverrides() }
        if !nodes.isEmpty {
            let registered = nodes.filter { journal.models.endpoints.hasEndpoints(ObjectKey($0)) }
            publisher.endpointsChanged(of: nodes, registered: registered)
        }
        followers.forEach { $0.value(events) }
    }

    /// What breakers are forced to goes to the proxies, now and when the next of them ends.
    private func takeOverrides() {
        let (now, table) = (journal.now, journal.models.overrides)
        let nodes = Set(table.current(now: now).map(\.key.node))
        publisher.overrides = Dictionary(
            uniqueKeysWithValues: nodes.compactMap { node in node.resource.map { ($0, table.overrides(of: node, now: now)) } })
        let timer = overrideTimer ?? LoopTimer { [unowned self] _ in takeOverrides() }
        overrideTimer = timer
        let left = table.nextEnd(after: now).map { Nanoseconds.milliseconds($0.milliseconds - now.milliseconds + 1) }
        loop.setDeadline(timer, left.map { loop.now + $0 } ?? .never)
    }

    private var overrideTimer: LoopTimer?

    /// What is derived from the mesh is made anew.
    private func takeMesh() {
        subjects = SubjectIndex(mesh)
        knownServices = [:]
        knownPorts = [:]
        publisher.setMesh(mesh, revision: journal.models.desired.revision)
    }

    /// Who wants to hear of every event from now on (`events --follow`).
    private var followers: [Int: ([StoredEvent]) -> Void] = [:]
    private var nextFollower = 0

    func follow(_ body: @escaping ([StoredEvent]) -> Void) -> Int {
        nextFollower += 1
        followers[nextFollower] = body
        return nextFollower
    }

    /// Who hears of every event now.
    var followerCount: Int { followers.count }

    func unfollow(_ id: Int) {
        followers[id] = nil
    }

    // MARK: Discovery

    private func registeredEndpoints(of node: ObjectKey) -> [Publisher.RegisteredEndpoint] {
        guard let subject = MeshCompiler.Subject(node) else { return [] }
        let listeners = inboundPorts(of: subject)
        return journal.models.endpoints.endpoints(of: node).compactMap { endpoint in
            guard !endpoint.isDraining, let address = IPAddress(endpoint.address) else { return nil }
            return Publisher.RegisteredEndpoint(address: address, ports: listeners, zone: endpoint.zone ?? "", takesTLS: endpoint.takesTLS)
        }
    }

    /// Where a node's proxies listen for each port of the mesh: the same for all, but for the address.
    private func inboundPorts(of subject: MeshCompiler.Subject) -> [Base.Port: Base.Port] {
        if let known = publisher.inboundPorts(of: subject) { return known }
        // None of its proxies is here now: nobody else has it compiled.
        if let known = knownPorts[subject] { return known }
        var ports: [Base.Port: Base.Port] = [:]
        if case .success(let compiled) = MeshCompiler.compile(publisher.mesh, for: subject).result {
            ports = compiled.inboundAddresses.mapValues(\.port)
        }
        knownPorts[subject] = ports
        return ports
    }

    /// A stream of a proxy has come.
    func arrived(_ key: InstanceKey, _ client: ClientNode, from peer: SocketAddress, reportStream: Int?) {
        let address = address(of: client, from: peer)
        var instance =
            fleet[key]
            ?? Fleet.Instance(
                key: key, client: client, mesh: client.mesh, address: address, connectedSince: nil, lastSeen: journal.now)
        instance.client = client
        instance.address = address
        if !instance.isConnected {
            instance.connectedSince = journal.now
            Log.info("fleet", "\(key) connected from \(peer)")
        }
        if let reportStream { instance.reportStream = reportStream } else { instance.configurationStreams += 1 }
        instance.lastSeen = journal.now
        fleet.add(instance)
        // Who has reported is there as long as it reports.
        if reportStream != nil || instance.report == nil { stopLosing(key) }
    }

    /// Why a client may not call itself what it does: another proxy of that name is there, and reports. Nil: it may.
    ///
    /// - Parameter startedAt: of the client's process, where it is known; else another address is taken for another proxy.
    func conflict(_ key: InstanceKey, _ client: ClientNode, from peer: SocketAddress, startedAt: Int64?) -> String? {
        guard let other = fleet[key], other.reportStream != nil, let report = other.report, !isSilent(other) else { return nil }
        let isSame = startedAt.map { $0 == report.startedAt } ?? (address(of: client, from: peer) == other.address)
        guard !isSame else { return nil }
        return "\(key.node) has a proxy that calls itself \"\(key.instance)\" already, at \(other.address); give each an --instance"
    }

    private func address(of client: ClientNode, from peer: SocketAddress) -> IPAddress { client.address ?? client.host ?? peer.ip }

    /// A client whose node no resource describes waits until there is one.
    func unknownClient(_ client: ClientNode, from peer: SocketAddress) {
        guard unknownClients.count < 1000, unknownClients.insert(client.id).inserted else { return }
        strangers.warning("fleet", "\(peer): \"\(client.id)\" waits: no VirtualNode or VirtualGateway of that name")
    }

    func reported(_ key: InstanceKey, _ report: NodeReport) {
        guard let instance = fleet[key] else { return }
        let hadIdentity = hasIdentity(key)
        traffic.add(report, after: instance.report, from: key.node, now: loop.now) { self.service(ofCluster: $0) }
        fleet.update(key) {
            $0.report = report
            $0.reportedAt = loop.now
            $0.lastSeen = journal.now
            // The last refusal is told for ever: it matters until something newer runs.
            $0.rejection =
                report.rejection.flatMap { $0.at > (report.applied?.at ?? 0) ? $0.reason : nil }
                ?? ($0.acknowledged == $0.wanted ? nil : $0.rejection)
        }
        // What a proxy can do of TLS decides what it is to run.
        if hasIdentity(key) != hadIdentity { ads.reassign([key]) }
        register(key, report)
        // The counters first: a rollout compares with what they were when the change was applied.
        rollouts.reported(key, report)
        recordApplied(key, report)
    }

    private func register(_ key: InstanceKey, _ report: NodeReport) {
        guard let instance = fleet[key] else { return }
        let known = journal.models.nodes.instances[key]
        var events: [MeshEvent] = []
        let address = instance.address.description
        let zone = instance.client.locality.zone
        let takesTLS = report.identity?.isServed == true && hasIdentity(key)
        if known == nil || known?.state == .left || known?.address != address || known?.zone != (zone.isEmpty ? nil : zone)
            || known?.takesTLS != takesTLS
        {
            let ports = MeshCompiler.Subject(key.node).map { inboundPorts(of: $0).values.map { Int($0) }.sorted() } ?? []
            events.append(
                .nodeRegistered(
                    NodeRegistration(
                        instance: key.instance, node: key.node, address: address, ports: ports, zone: zone.isEmpty ? nil : zone,
                        takesTLS: takesTLS)))
        }
        let state = events.isEmpty ? known?.state : .registered
        switch report.state {
        case .live where report.applied != nil && state != .ready: events.append(.nodeReady(InstanceChange(instance: key)))
        case .draining where state != .draining:
            events.append(.nodeDraining(InstanceChange(instance: key, reason: "it drains")))
        default: break
        }
        guard !events.isEmpty, pendingRegistrations.insert(key).inserted else { return }
        journal.record(events, actor: actor(key)) { [weak self] recorded in
            guard let self else { return }
            pendingRegistrations.remove(key)
            // What it has reported meanwhile does not wait for its next report.
            guard case .success = recorded, let instance = fleet[key], instance.reportStream != nil, let report = instance.report else {
                return
            }
            register(key, report)
        }
    }

    private var pendingRegistrations: Set<InstanceKey> = []

    func reportsEnded(_ key: InstanceKey, reportStream: Int) {
        guard fleet[key]?.reportStream == reportStream else { return }
        fleet.update(key) { $0.reportStream = nil }
        if fleet[key]?.report?.state == .draining { return left(key, "it drained") }
        startLosing(key)
    }

    func configurationEnded(_ key: InstanceKey) {
        fleet.update(key) { $0.configurationStreams -= 1 }
        guard let instance = fleet[key], !instance.isConnected else { return }
        Log.info("fleet", "\(key) disconnected")
        // A client that never reports is known by its configuration stream alone.
        if instance.report == nil { startLosing(key) }
    }

    /// Whether a proxy with an open stream has not been heard of for longer than it should be.
    func isSilent(_ instance: Fleet.Instance) -> Bool {
        loop.now - instance.reportedAt > Nanoseconds(count: options.reportInterval.count * 2)
    }

    /// How long proxies have to come back to a control plane that was away: longer than they wait between two tries.
    private static let returnTime = Nanoseconds.seconds(60)

    private func startLosing(_ key: InstanceKey, after time: Nanoseconds? = nil) {
        stopLosing(key)
        let time = time ?? options.lostAfter
        let timer = LoopTimer { [weak self] _ in
            guard let self, fleet[key]?.reportStream == nil else { return }
            left(key, "its stream was lost for \(time.count / 1_000_000_000) s")
        }
        timers[key] = timer
        loop.setDeadline(timer, loop.now + time)
    }

    private func stopLosing(_ key: InstanceKey) {
        if let timer = timers.removeValue(forKey: key) { loop.cancelDeadline(timer) }
    }

    private func left(_ key: InstanceKey, _ reason: String) {
        stopLosing(key)
        if fleet[key]?.isConnected != true {
            fleet.remove(key)
            ads.forget(key)
        }
        rollouts.left(key)
        guard let known = journal.models.nodes.instances[key], known.state != .left else { return }
        Log.info("fleet", "\(key) left: \(reason)")
        journal.record([.nodeLeft(InstanceChange(instance: key, reason: reason))], actor: "system")
    }

    // MARK: What proxies say of their configuration

    func synced(_ key: InstanceKey, _ version: String?) {
        fleet.update(key) {
            $0.acknowledged = version
            $0.rejection = nil
        }
    }

    func refused(_ key: InstanceKey, _ refusal: DiscoveryStream.Refusal) {
        let problem = "\(refusal.type.name): \(refusal.reason)"
        strangers.warning("xds", "\(key) refused \(refusal.type.name) \(refusal.version): \(refusal.reason)")
        fleet.update(key) { $0.rejection = problem }
        let version = fleet[key]?.wanted ?? refusal.version
        journal.record(
            [.snapshotRefused(SnapshotChange(instance: key, version: version, reason: problem))], actor: actor(key))
        rollouts.refused(key, problem)
    }

    /// What endpoints come and go is not recorded: only that a proxy runs another state of the resources.
    private func recordApplied(_ key: InstanceKey, _ report: NodeReport) {
        guard let instance = fleet[key], let applied = report.applied, applied.version == instance.wanted,
            let target = ads.target(of: key), let base = publisher.baseVersion(target)
        else { return }
        rollouts.applied(key, target)
        guard instance.recorded != base else { return }
        fleet.update(key) { $0.recorded = base }
        guard journal.models.nodes.instances[key]?.applied != applied.version else { return }
        journal.record([.snapshotApplied(SnapshotChange(instance: key, version: applied.version))], actor: actor(key))
    }

    /// Looks again whether a proxy runs what it should: that may have become something else.
    func confirm(_ key: InstanceKey, _ report: NodeReport) {
        recordApplied(key, report)
    }

    /// The roots of ours that proxies trust.
    var authorities: Set<String> = []

    /// Whether a proxy has a certificate of ours that holds: as it says itself, or until it has said something, as we remember.
    func hasIdentity(_ key: InstanceKey) -> Bool { identity(of: key) != nil }

    /// Its certificate.
    func identity(of key: InstanceKey) -> IssuedCertificate? {
        let known = journal.models.certificates
        let newest = known.certificate(of: key)
        // A proxy that has lost its files says that it has none.
        let held = fleet[key]?.report.map { report in report.identity.flatMap { known.certificates[$0.serial] } } ?? newest
        guard let held, held.instance.node == key.node, held.notAfter > journal.now, authorities.contains(held.authority) else {
            return nil
        }
        return held
    }

    func edition(of key: InstanceKey) -> Publisher.Edition { rollouts.edition(of: key) }

    private func actor(_ key: InstanceKey) -> String { "node:\(key.node.namespace ?? "")/\(key.node.name)/\(key.instance)" }

    /// Why a client may not have a node's configuration, nor speak for it; nil: it may.
    func refusal(of exchange: HTTPExchange, as subject: MeshCompiler.Subject) -> String? {
        guard let identity = exchange.identity else {
            guard options.proof == .always || options.proof == .remote && !exchange.isLoopback else { return nil }
            return "it shows no certificate, and calls itself \(subject.key.qualified): a proxy gets one with a token "
                + "(outrigger token create), or by outriggerd --require-identity its word counts"
        }
        guard let spiffe = identity.spiffeID else {
            return "its certificate (\(identity.name)) has no SPIFFE ID, and it calls itself \(subject.key.qualified)"
        }
        let kind = subject.key.kind == .virtualGateway ? "vg" : "vn"
        let suffix = "/ns/\(subject.key.namespace ?? "")/\(kind)/\(subject.key.name)"
        return spiffe.hasSuffix(suffix) ? nil : "its certificate is for \(spiffe), not for \(subject.key.qualified)"
    }

    // MARK: Names

    /// The service that a cluster of ours stands for; nil for the application beside a proxy.
    func service(ofCluster name: String) -> String? {
        if let known = knownServices[name] { return known.isEmpty ? nil : known }
        let service = nameOfService(name)
        if knownServices.count > 100_000 { knownServices = [:] }
        knownServices[name] = service ?? ""
        return service
    }

    private func nameOfService(_ cluster: String) -> String? {
        guard cluster.hasPrefix("cds_egress_") else { return cluster.hasPrefix("cds_ingress_") ? nil : cluster }
        return subjects.node(ofEgressCluster: cluster).map { "\($0.namespace ?? "")/\($0.name)" } ?? cluster
    }
}

import Base
import HTTP
import HTTPServer
import MeshCompiler
import Projections
import Reactor
import XDSServer
import XDSWire

/// The ADS streams: each client gets what its node is to run, and its answers are kept.
final class ADSService {
    static let statePath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    static let deltaPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
    /// A request names resources; those of a node with all of a large mesh as backends are a few hundred KiB.
    static let maxMessageBytes = 8 << 20

    final class Stream: Timed {
        let call: GRPCServerStream
        var machine: DiscoveryStream
        var client: ClientNode?
        var subject: MeshCompiler.Subject?
        var key: InstanceKey?
        var target: Publisher.Target?
        private let service: ADSService

        fileprivate init(_ call: GRPCServerStream, _ variant: DiscoveryStream.Variant, _ service: ADSService) {
            self.call = call
            self.service = service
            machine = DiscoveryStream(variant, controlPlane: service.controller.name)
        }

        override func deadlineReached(now: Instant) {
            service.perform(machine.deadlineReached(now: now), self)
        }
    }

    /// Since the start.
    private(set) var pushes: UInt64 = 0
    private(set) var acks: UInt64 = 0
    private(set) var nacks: UInt64 = 0
    private(set) var pushedBytes: UInt64 = 0

    private let controller: Controller
    private(set) var streams: [ObjectIdentifier: Stream] = [:]
    private var byTarget: [Publisher.Target: Set<ObjectIdentifier>] = [:]
    private var byKey: [InstanceKey: Set<ObjectIdentifier>] = [:]
    private var resumptions: [InstanceKey: DiscoveryStream.Resumption] = [:]

    init(_ controller: Controller) {
        self.controller = controller
    }

    func open(_ exchange: HTTPExchange, _ variant: DiscoveryStream.Variant) {
        guard let call = GRPCServerStream(exchange, maxMessageBytes: Self.maxMessageBytes) else { return }
        let stream = Stream(call, variant, self)
        streams[ObjectIdentifier(stream)] = stream
        call.onMessage = { [unowned self, unowned stream] message in
            perform(stream.machine.receive(message, now: controller.loop.now), stream)
        }
        call.onEnd = { [unowned self, unowned stream] in
            stream.call.finish()
            closed(stream)
        }
        call.onClosed = { [unowned self, unowned stream] _ in closed(stream) }
        call.begin()
    }

    /// The control plane ends: clients come back when there is one.
    func end() {
        for stream in streams.values { stream.call.finish(GRPC.Status.unavailable, "the control plane is ending") }
    }

    // MARK: What it shall have

    /// The mesh has changed: who waited for its node may have one, and nodes may be others.
    func meshChanged() {
        for stream in streams.values where stream.client != nil { assign(stream) }
    }

    /// These targets have another configuration.
    func configurationsChanged(_ targets: Set<Publisher.Target>) {
        for target in targets {
            for id in byTarget[target] ?? [] { if let stream = streams[id] { update(stream) } }
        }
    }

    /// A rollout moves these to another edition.
    func reassign(_ keys: some Sequence<InstanceKey>) {
        for id in keys.flatMap({ byKey[$0] ?? [] }) { if let stream = streams[id] { assign(stream) } }
    }

    func target(of key: InstanceKey) -> Publisher.Target? {
        byKey[key]?.lazy.compactMap { self.streams[$0]?.target }.first
    }

    private func assign(_ stream: Stream) {
        guard let client = stream.client else { return }
        guard let subject = controller.subjects.subject(of: client) ?? stream.subject else { return }
        if stream.subject == nil {
            let peer = stream.call.exchange.peer
            let key = client.instanceKey(of: subject)
            if let problem = controller.refusal(of: stream.call.exchange, as: subject) {
                return refuse(stream, GRPC.Status.permissionDenied, problem)
            }
            if let problem = controller.conflict(key, client, from: peer, startedAt: nil) {
                return refuse(stream, GRPC.Status.alreadyExists, problem)
            }
            stream.key = key
            byKey[key, default: []].insert(ObjectIdentifier(stream))
            if let earlier = resumptions.removeValue(forKey: key) { stream.machine.resume(earlier) }
            controller.arrived(key, client, from: peer, reportStream: nil)
        }
        stream.subject = subject
        let edition = stream.key.map { controller.edition(of: $0) } ?? .current
        let target = Publisher.Target(
            subject: subject, hostAddress: client.host, edition: edition,
            hasIdentity: stream.key.map { controller.hasIdentity($0) } ?? false)
        if target != stream.target {
            let before = stream.target
            stream.target = target
            byTarget[target, default: []].insert(ObjectIdentifier(stream))
            controller.publisher.retain(target)
            if let before { leave(before, stream) }
        }
        update(stream)
    }

    private func refuse(_ stream: Stream, _ status: UInt32, _ problem: String) {
        controller.strangers.warning("xds", "\(stream.call.exchange.peer): refused: \(problem)")
        stream.call.finish(status, problem)
        closed(stream)
    }

    private func leave(_ target: Publisher.Target, _ stream: Stream) {
        byTarget[target]?.remove(ObjectIdentifier(stream))
        if byTarget[target]?.isEmpty == true { byTarget[target] = nil }
        controller.publisher.release(target)
    }

    private func update(_ stream: Stream) {
        guard let target = stream.target, let client = stream.client,
            let set = controller.publisher.resourceSet(target, for: client.program)
        else { return }
        if let key = stream.key {
            let version = controller.publisher.configuration(target)?.version
            controller.fleet.update(key) { $0.wanted = version }
        }
        perform(stream.machine.update(set, now: controller.loop.now), stream)
    }

    // MARK: What it says

    private func perform(_ actions: [DiscoveryStream.Action], _ stream: Stream) {
        for action in actions {
            switch action {
            case .send(let message):
                pushes += 1
                pushedBytes += UInt64(message.count)
                stream.call.send(message)
            case .identified(let client):
                stream.client = client
                assign(stream)
                if stream.subject == nil, stream.call.isOpen { controller.unknownClient(client, from: stream.call.exchange.peer) }
            case .acked:
                acks += 1
            case .nacked(let refusal):
                nacks += 1
                if let key = stream.key { controller.refused(key, refusal) }
            case .synced:
                guard let key = stream.key, let target = stream.target else { break }
                controller.synced(key, controller.publisher.configuration(target)?.version)
            case .unresponsive(let type):
                controller.strangers.warning(
                    "xds", "\(name(stream)): no answer to \(type.name) for \(DiscoveryStream.answerTime.count / 1_000_000_000) s")
            case .unknownType(let url):
                controller.strangers.warning("xds", "\(name(stream)): asks for \(url), which is not served here")
            case .close(let code, let reason):
                controller.strangers.warning("xds", "\(name(stream)): \(reason)")
                stream.call.finish(UInt32(code), reason)
                closed(stream)
            }
        }
        guard stream.call.isOpen else { return }
        controller.loop.setDeadline(stream, stream.machine.deadline)
    }

    private func name(_ stream: Stream) -> String { stream.key?.description ?? "\(stream.call.exchange.peer)" }

    private func closed(_ stream: Stream) {
        guard streams.removeValue(forKey: ObjectIdentifier(stream)) != nil else { return }
        controller.loop.cancelDeadline(stream)
        if let target = stream.target { leave(target, stream) }
        guard let key = stream.key else { return }
        byKey[key]?.remove(ObjectIdentifier(stream))
        if byKey[key]?.isEmpty == true { byKey[key] = nil }
        resumptions[key] = stream.machine.resumptionState
        controller.configurationEnded(key)
    }

    /// A proxy that is gone for good does not resume.
    func forget(_ key: InstanceKey) {
        resumptions[key] = nil
    }
}

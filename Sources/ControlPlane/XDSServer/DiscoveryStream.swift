public import Base
import ProxyConfig
public import XDSWire

/// One client's ADS stream, state of the world or delta (envoy's xds_protocol.rst): requests, resource sets and the time go in, responses
/// and news of the client come out. The owner has the socket and the clock.
///
/// A change reaches the client in three steps, make before break: first secrets, clusters and endpoints; when all of these are accepted,
/// listeners and routes; when these are, what nothing refers to any more is removed. Order on the wire alone would not do: a route that
/// moves while its cluster still warms answers 503. One response of a type is under way at a time, so sets that come faster than the client
/// accepts them coalesce. What was refused is not sent again until its content changes.
public struct DiscoveryStream: Sendable {
    public enum Variant: Sendable {
        case stateOfTheWorld
        case delta
    }

    public enum Action: Hashable, Sendable {
        /// An encoded DiscoveryResponse or DeltaDiscoveryResponse.
        case send([UInt8])
        /// Who it is: the first thing that a stream says. Call `update` with what it shall have.
        case identified(ClientNode)
        case acked(StreamedType, version: String)
        /// What serves at the client is what served before. Nothing of it is sent again until it changes.
        case nacked(Refusal)
        /// The client has everything of the set of this version, and nothing else.
        case synced(version: String)
        /// No answer for `answerTime`. Perhaps it warms; it is not to be cut off for that.
        case unresponsive(StreamedType)
        /// Asked for, and no such thing is served here. Said once for each.
        case unknownType(String)
        /// End the stream with this gRPC status; the stream is not to be used any more.
        case close(code: Int, reason: String)
    }

    public struct Refusal: Hashable, Sendable {
        public var type: StreamedType
        /// Of the response.
        public var version: String
        /// What was in it.
        public var names: [String]
        public var code: Int
        /// The client's words: our proxies name resource, path, what was expected and what was found, one problem a line.
        public var reason: String
    }

    /// What a client may hold when its stream breaks: for the next stream of the same instance, which otherwise could not know what
    /// must not be taken away yet. Only state of the world needs it.
    public struct Resumption: Sendable {
        fileprivate(set) var clusters: [[String: EncodedResource]] = []

        public init() {}
    }

    public static let answerTime = Nanoseconds.seconds(30)
    /// How long a client may take to ask for what its resources refer to before the stream goes on without: it may never need it.
    public static let patience = Nanoseconds.seconds(5)
    /// Names of one type on one stream: ten times the clusters that a large mesh has.
    static let maxNames = 50_000
    /// Bytes of a name; Envoy's own limit for cluster names is far below.
    static let maxNameBytes = 4096
    /// Responses of one type to a client of delta that asks and asks and accepts nothing: more requests wait.
    static let maxInFlight = 16
    static let maxUnknownTypes = 16
    /// Of a client whose streams break before it can answer, one after the other.
    static let maxResumedStates = 4

    let variant: Variant
    private let controlPlane: String
    private(set) var set: ResourceSet?
    var channels: [StreamedType: Channel]
    private(set) var isIdentified = false
    /// Our own proxies: they take a snapshot whole or not at all, and find only then what they cannot use of what they have accepted.
    private var takesAllOrNothing = false
    private var unknownTypes: Set<String> = []
    private var resumption = Resumption()
    private var hasAcceptedClusters = false
    private var nextNonce = 1
    private var syncedVersion: String?
    /// What the client was waited for in vain to ask for.
    private var waived: Set<Need> = []
    /// Since when it is waited for that: for foundations, and for their users.
    private var waitingSince: [Instant?] = [nil, nil]

    /// Something that resources of the client refer to.
    private enum Need: Hashable {
        case type(StreamedType)
        case resource(ResourceKey)
    }

    /// - Parameter controlPlane: what we call ourselves in responses.
    public init(_ variant: Variant, controlPlane: String = "") {
        self.variant = variant
        self.controlPlane = controlPlane
        channels = Dictionary(uniqueKeysWithValues: StreamedType.allCases.map { ($0, Channel($0)) })
    }

    /// When `deadlineReached` is to be called.
    public var deadline: Instant {
        let answers = channels.values.lazy.flatMap(\.inFlight).filter { !$0.isTold }.map { $0.since + Self.answerTime }
        return min(answers.min() ?? .never, waitingSince.lazy.compactMap { $0 }.min().map { $0 + Self.patience } ?? .never)
    }

    /// For the client's next stream.
    public var resumptionState: Resumption {
        let channel = channels[.cluster]!
        // The answer to what is under way may be lost: the client then holds either. Before it has accepted anything here, it may also
        // hold what it held before.
        var states = channel.inFlight.map(\.resources)
        if channel.isOpen, channel.holding == nil { states.append(channel.accepted) }
        if !hasAcceptedClusters { states += resumption.clusters }
        var resumption = Resumption()
        var seen: Set<String> = []
        resumption.clusters = Array(states.filter { seen.insert(contentVersion($0.values)).inserted }.prefix(Self.maxResumedStates))
        return resumption
    }

    // MARK: Events

    /// To be called before the first `update`.
    public mutating func resume(_ earlier: Resumption) {
        resumption = earlier
    }

    /// What the client shall have from now on.
    public mutating func update(_ set: ResourceSet, now: Instant) -> [Action] {
        if self.set?.version == set.version { return [] }
        self.set = set
        syncedVersion = nil
        return advance(now: now)
    }

    /// A message of the client: an encoded DiscoveryRequest or DeltaDiscoveryRequest.
    public mutating func receive(_ message: [UInt8], now: Instant) -> [Action] {
        var actions: [Action] = []
        do throws(StreamFailure) {
            switch variant {
            case .stateOfTheWorld: try take(try decoded { () throws(WireErrors) in try DiscoveryRequest(decoding: message) }, &actions)
            case .delta: try take(try decoded { () throws(WireErrors) in try DeltaDiscoveryRequest(decoding: message) }, &actions)
            }
        } catch {
            return actions + [.close(code: error.code, reason: error.reason)]
        }
        return actions + advance(now: now)
    }

    /// `deadline` is due.
    public mutating func deadlineReached(now: Instant) -> [Action] {
        var actions: [Action] = []
        for type in StreamedType.allCases {
            for index in channels[type]!.inFlight.indices where !channels[type]!.inFlight[index].isTold {
                guard channels[type]!.inFlight[index].since + Self.answerTime <= now else { continue }
                channels[type]!.inFlight[index].isTold = true
                actions.append(.unresponsive(type))
            }
        }
        return actions + advance(now: now)
    }

    private func decoded<Request>(_ decode: () throws(WireErrors) -> Request) throws(StreamFailure) -> Request {
        do throws(WireErrors) {
            return try decode()
        } catch {
            throw StreamFailure(code: StreamFailure.invalidArgument, reason: String(error.description.prefix(1000)))
        }
    }

    // MARK: What requests share

    mutating func identify(_ node: ClientNode?, _ actions: inout [Action]) throws(StreamFailure) {
        if isIdentified { return }
        guard let node else {
            throw StreamFailure(code: StreamFailure.invalidArgument, reason: "node: expected a value in the first request, found nothing")
        }
        isIdentified = true
        takesAllOrNothing = node.program == .outrigger
        actions.append(.identified(node))
    }

    /// Nil for what we do not serve.
    mutating func streamedType(_ url: String, _ actions: inout [Action]) -> StreamedType? {
        if let type = StreamedType(typeURL: url) { return type }
        if unknownTypes.count < Self.maxUnknownTypes, unknownTypes.insert(url).inserted {
            actions.append(.unknownType(String(url.prefix(200))))
        }
        return nil
    }

    mutating func settle(_ type: StreamedType, _ index: Int, _ error: RPCStatus?, _ actions: inout [Action]) {
        let message = channels[type]!.settle(index, isAccepted: error == nil)
        if let error {
            actions.append(.nacked(Refusal(type, message, error)))
        } else {
            if type == .cluster { hasAcceptedClusters = true }
            actions.append(.acked(type, version: message.version))
        }
    }

    /// A refusal of what was accepted: a client may do so when the rest has come and does not go with it.
    mutating func revoke(_ type: StreamedType, _ error: RPCStatus, _ actions: inout [Action]) {
        guard let message = channels[type]!.revoke() else { return }
        actions.append(.nacked(Refusal(type, message, error)))
    }

    /// What was refused runs after all: what stood in its way at the client is gone.
    mutating func accept(_ type: StreamedType, _ actions: inout [Action]) {
        guard let message = channels[type]!.accept() else { return }
        actions.append(.acked(type, version: message.version))
    }

    // MARK: Steps

    /// Does whatever is due. Which step the client is at follows from what it has accepted.
    private mutating func advance(now: Instant) -> [Action] {
        guard let set, isIdentified else { return [] }
        for type in StreamedType.allCases { recallHolding(type, set) }
        if takesAllOrNothing {
            // What it refuses it does not run, so nothing there leads to it, and kept beside what is wanted it would spoil that too.
            for name in channels[.cluster]!.refused.keys where set.resources[.cluster]?[name] == nil {
                channels[.cluster]!.inUse[name] = nil
            }
        }
        var actions: [Action] = []
        for type in StreamedType.foundations { push(type, .additions, set, now, &actions) }
        guard isSettled(StreamedType.foundations, set, now) else {
            pushWhatIsSafe(set, now, &actions)
            return actions
        }
        // From here on routes may lead to these.
        channels[.cluster]!.inUse.merge(channels[.cluster]!.accepted) { $1 }
        for type in StreamedType.users { push(type, type == .listener ? .everything : .additions, set, now, &actions) }
        guard isSettled(StreamedType.users, set, now) else { return actions }

        channels[.cluster]!.inUse = channels[.cluster]!.accepted.filter { set.resources[.cluster]?[$0.key] != nil }
        push(.cluster, .everything, set, now, &actions)
        guard channels[.cluster]!.isQuiet else { return actions }
        for type in [StreamedType.clusterLoadAssignment, .routeConfiguration, .secret, .settings] {
            push(type, .everything, set, now, &actions)
        }
        guard channels.values.allSatisfy(\.isQuiet) else { return actions }
        if syncedVersion != set.version {
            syncedVersion = set.version
            actions.append(.synced(version: set.version))
        }
        return actions
    }

    /// What the client holds from an earlier stream, as far as it can be known.
    private mutating func recallHolding(_ type: StreamedType, _ set: ResourceSet) {
        guard let holding = channels[type]!.holding else { return }
        channels[type]!.holding = nil
        let wanted = channels[type]!.wanted(in: set, isDelta: variant == .delta)
        var held: [String: EncodedResource] = [:]
        switch holding {
        case .version(let version):
            let candidates = [wanted] + (type == .cluster ? resumption.clusters : [])
            held = candidates.first { contentVersion($0.values) == version } ?? [:]
            // Endpoints of clusters that are about to go serve until the routes have moved: an empty assignment would end that now.
            for name in channels[type]!.names where type == .clusterLoadAssignment && held[name] == nil {
                let isWanted = set.resources[type]?[name] != nil || set.needsAssignment(name)
                if !isWanted { held[name] = EncodedResource.unknown(name, version) }
            }
            // The very same: nothing need be said. But names are answered always.
            if type.isWhole, channels[type]!.isWildcard, version == contentVersion(wanted.values) { channels[type]!.isAnswerOwed = false }
        case .versions(let versions):
            for (name, version) in versions where channels[type]!.wants(name) {
                held[name] = wanted[name]?.version == version ? wanted[name] : EncodedResource.unknown(name, version)
                channels[type]!.owed.remove(name)
            }
        }
        channels[type]!.sent = held
        channels[type]!.accepted = held
        if type == .cluster { channels[type]!.inUse = held }
    }

    /// Everything of these types is accepted, and the client has asked for all that it refers to.
    private mutating func isSettled(_ types: [StreamedType], _ set: ResourceSet, _ now: Instant) -> Bool {
        let step = types == StreamedType.users ? 1 : 0
        let since = waitingSince[step] ?? now
        waitingSince[step] = nil
        guard types.allSatisfy({ channels[$0]!.isQuiet }) else { return false }
        let missing = missingNeeds(types, set).subtracting(waived)
        if missing.isEmpty { return true }
        guard since + Self.patience <= now else {
            waitingSince[step] = since
            return false
        }
        waived.formUnion(missing)
        return true
    }

    private func missingNeeds(_ types: [StreamedType], _ set: ResourceSet) -> Set<Need> {
        var missing: Set<Need> = []
        // Whoever uses anything has listeners; without, this is the beginning of a stream.
        if types.contains(.listener), !channels[.listener]!.isOpen { missing.insert(.type(.listener)) }
        for type in types {
            guard let key = ResourceType(rawValue: type.typeURL), channels[type]!.isOpen else { continue }
            for name in channels[type]!.sent.keys {
                for need in set.references[ResourceKey(key, name)] ?? [] {
                    let channel = channels[StreamedType(need.type)]!
                    let isThere = channel.isOpen && channel.wants(need.name) && (channel.holds(need.name) || set.resource(need) == nil)
                    if !isThere { missing.insert(.resource(need)) }
                }
            }
        }
        return missing
    }

    /// With clusters refused, listeners and routes stand still. But what the client asks for by name and does not have cannot break
    /// anything, if the clusters that it leads to are there.
    private mutating func pushWhatIsSafe(_ set: ResourceSet, _ now: Instant, _ actions: inout [Action]) {
        guard StreamedType.foundations.contains(where: { !channels[$0]!.refused.isEmpty }) else { return }
        let clusters = channels[.cluster]!
        for type in StreamedType.users {
            guard let key = ResourceType(rawValue: type.typeURL), !channels[type]!.isWildcard, channels[type]!.refused.isEmpty else {
                continue
            }
            let safe = channels[type]!.owed.filter { name in
                guard channels[type]!.sent[name] == nil else { return false }
                let needs = set.references[ResourceKey(key, name)] ?? []
                return needs.allSatisfy { $0.type != .cluster || !clusters.isWildcard || clusters.holds($0.name) }
            }
            for need in safe.flatMap({ set.references[ResourceKey(key, $0)] ?? [] }) where need.type == .cluster {
                channels[.cluster]!.inUse[need.name] = clusters.accepted[need.name]
            }
            push(type, .only(safe), set, now, &actions)
        }
    }

    // MARK: Responses

    private enum Extent {
        /// What is new or changed. In state of the world everything else that the client has stands beside it.
        case additions
        /// Also without what is not wanted any more.
        case everything
        /// New, and of these names.
        case only(Set<String>)
    }

    /// Sends a response of this type, if one is due.
    private mutating func push(_ type: StreamedType, _ extent: Extent, _ set: ResourceSet, _ now: Instant, _ actions: inout [Action]) {
        guard channels[type]!.isOpen, channels[type]!.isWildcard || !channels[type]!.names.isEmpty else { return }
        let before = channels[type]!.sent
        let message =
            switch variant {
            case .stateOfTheWorld: worldMessage(type, extent, set)
            case .delta: deltaMessage(type, extent, set)
            }
        guard let message else { return }
        let nonce = String(nextNonce)
        nextNonce += 1
        channels[type]!.nonce = nonce
        for (name, resource) in message.resources { channels[type]!.sent[name] = resource }
        for name in message.removed { channels[type]!.sent[name] = nil }
        let version = contentVersion(channels[type]!.sent.values)
        channels[type]!.inFlight.append(
            Channel.Sent(nonce: nonce, version: version, resources: message.resources, removed: message.removed, since: now))
        if type == .cluster { resendEndpoints(of: message.resources, before, set) }
        let resources = message.resources.values.sorted { $0.name < $1.name }
        switch variant {
        case .stateOfTheWorld:
            actions.append(
                .send(
                    DiscoveryResponse(
                        versionInfo: version, resources: resources.map(\.message), typeURL: type.typeURL, nonce: nonce,
                        controlPlane: controlPlane
                    ).encoded()))
        case .delta:
            actions.append(
                .send(
                    DeltaDiscoveryResponse(
                        systemVersion: version, resources: resources, typeURL: type.typeURL,
                        removed: message.removed, nonce: nonce, controlPlane: controlPlane
                    ).encoded()))
        }
    }

    private struct Message {
        var resources: [String: EncodedResource]
        /// Names that the client shall not have any more, or that do not exist.
        var removed: [String] = []
    }

    /// A changed cluster is not warm before its endpoints have come once more, even if they are the same.
    private mutating func resendEndpoints(of clusters: [String: EncodedResource], _ before: [String: EncodedResource], _ set: ResourceSet) {
        for (name, cluster) in clusters where before[name]?.version != cluster.version {
            for need in set.references[ResourceKey(.cluster, name)] ?? [] where need.type == .clusterLoadAssignment {
                if channels[.clusterLoadAssignment]!.sent[need.name] != nil { channels[.clusterLoadAssignment]!.resend.insert(need.name) }
            }
        }
    }

    private mutating func worldMessage(_ type: StreamedType, _ extent: Extent, _ set: ResourceSet) -> Message? {
        // One at a time: the names of the next request come with the answer to this one.
        guard channels[type]!.inFlight.isEmpty else { return nil }
        let wanted = channels[type]!.wanted(in: set, isDelta: false)
        var names = changes(type, wanted, extent)
        guard type.isWhole else {
            names.formIntersection(wanted.keys)
            return names.isEmpty ? nil : Message(resources: wanted.filter { names.contains($0.key) })
        }

        var whole: [String: EncodedResource] = [:]
        switch extent {
        case .everything: whole = wanted
        case .additions: whole = channels[type]!.inUse.merging(wanted) { $1 }
        case .only(let safe): whole = channels[type]!.sent.merging(wanted.filter { safe.contains($0.key) }) { $1 }
        }
        // What was refused is refused again, whatever the reason to send it.
        let isRepair = !channels[type]!.refused.isEmpty
        if isRepair, contentVersion(whole.values) == channels[type]!.refusedVersion { return nil }
        let removed = channels[type]!.sent.keys.filter { whole[$0] == nil }
        let isChanged = !removed.isEmpty || whole.contains { channels[type]!.sent[$0.key]?.version != $0.value.version }
        guard isChanged || isRepair || !names.isEmpty || channels[type]!.isAnswerOwed else { return nil }
        channels[type]!.refused = [:]
        channels[type]!.isAnswerOwed = false
        return Message(resources: whole, removed: removed)
    }

    private mutating func deltaMessage(_ type: StreamedType, _ extent: Extent, _ set: ResourceSet) -> Message? {
        let wanted = channels[type]!.wanted(in: set, isDelta: true)
        // Answers to questions may overtake; changes wait for the client.
        let owed = channels[type]!.owed
        let isFree = channels[type]!.inFlight.isEmpty
        let spoilt = isFree ? spoilt(type, wanted) : []
        guard isFree || (!owed.isEmpty && channels[type]!.inFlight.count < Self.maxInFlight) else { return nil }
        var names = isFree ? changes(type, wanted, extent, isRepaired: !spoilt.isEmpty) : takeOwed(type, extent)
        // A name that does not exist is said not to, at once; one that the client has stays until nothing needs it.
        var removed = names.filter { wanted[$0] == nil && channels[type]!.sent[$0] == nil }
        removed.formUnion(spoilt)
        names.formIntersection(wanted.keys)
        if case .everything = extent, isFree { removed.formUnion(channels[type]!.sent.keys.filter { wanted[$0] == nil }) }
        let isAnswerOwed = channels[type]!.isAnswerOwed
        if names.isEmpty, removed.isEmpty, !isAnswerOwed { return nil }
        channels[type]!.isAnswerOwed = false
        return Message(resources: wanted.filter { names.contains($0.key) }, removed: removed.sorted())
    }

    /// What must go before the client can accept anything else of the type: it takes all or nothing, and did not take what it has been sent.
    /// What it refuses it does not run, so nothing there leads to it.
    private func spoilt(_ type: StreamedType, _ wanted: [String: EncodedResource]) -> Set<String> {
        let refused = channels[type]!.refused
        guard takesAllOrNothing, !refused.isEmpty else { return [] }
        return Set(refused.keys).union(channels[type]!.sent.keys).filter { wanted[$0] == nil }
    }

    /// The names that are to be sent, wanted or not, and no longer owed from here on.
    ///
    /// - Parameter isRepaired: what may have spoilt what was refused goes with it.
    private mutating func changes(
        _ type: StreamedType, _ wanted: [String: EncodedResource], _ extent: Extent, isRepaired: Bool = false
    ) -> Set<String> {
        var names = takeOwed(type, extent)
        if case .only = extent { return names }
        for (name, resource) in wanted where channels[type]!.sent[name]?.version != resource.version { names.insert(name) }
        names.formUnion(channels[type]!.resend)
        channels[type]!.resend = []
        // What came in one response was refused with what was bad in it: if that has changed, all of it goes again. A client that takes all
        // or nothing may have been hindered by any of its type.
        let refused = channels[type]!.refused
        let isAnother =
            isRepaired || (variant == .delta && takesAllOrNothing && !names.isEmpty)
            || refused.contains { wanted[$0.key]?.version != $0.value }
        if variant == .delta || !type.isWhole, !refused.isEmpty, isAnother {
            channels[type]!.refused = [:]
            for name in refused.keys {
                if wanted[name] != nil {
                    names.insert(name)
                } else {
                    // The client has it as it was, or as it was refused, and nobody knows which.
                    channels[type]!.sent[name] = .unknown(name, "")
                }
            }
        }
        return names
    }

    private mutating func takeOwed(_ type: StreamedType, _ extent: Extent) -> Set<String> {
        if case .only(let safe) = extent {
            channels[type]!.owed.subtract(safe)
            return safe
        }
        defer { channels[type]!.owed = [] }
        return channels[type]!.owed
    }
}

/// Why a stream must end.
struct StreamFailure: Error {
    /// Of grpc-status.
    static let invalidArgument = 3
    static let resourceExhausted = 8

    var code: Int
    var reason: String
}

extension EncodedResource {
    /// What a client says it has, of which only the version is known.
    fileprivate static func unknown(_ name: String, _ version: String) -> EncodedResource {
        EncodedResource(name: name, version: version, message: AnyMessage(typeURL: "", value: []))
    }
}

extension DiscoveryStream.Refusal {
    fileprivate init(_ type: StreamedType, _ message: Channel.Sent, _ error: RPCStatus) {
        self.init(
            type: type, version: message.version, names: message.resources.keys.sorted() + message.removed, code: Int(error.code),
            reason: error.message)
    }
}

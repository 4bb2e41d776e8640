/// XDSClient decides for the client of a control plane: what to subscribe to, when the resources that have come make one consistent
/// snapshot, what to accept and refuse, and when and where to connect again. It has no socket and no clock.

public import Base
public import ProxyConfig
public import XDSWire

/// The aggregated discovery service over one stream at a time, state of the world or delta (envoy's xds_protocol.rst): messages and the
/// time go in, actions come out.
///
/// Clusters, listeners and process settings are subscribed whole; endpoints, routes and secrets by the names that clusters and listeners
/// refer to. What has come is offered to the owner as a `Snapshot` when every reference in it is resolved (warming); until then, and when
/// it is refused, the last good one stands. A response that is good in itself but does not complete anything is acknowledged at once: a
/// control plane may wait for that before it sends what is missing. One that completes a snapshot is acknowledged when the owner has
/// taken that, and refused when the owner refuses it. In both variants alike: by delta less is sent, and what is decided is the same.
public struct ADSClient: Sendable {
    public enum Variant: Hashable, Sendable {
        case stateOfTheWorld
        case delta
    }

    public enum Action: Hashable, Sendable {
        /// On a stream of state of the world.
        case send(DiscoveryRequest)
        /// On a stream of delta.
        case sendDelta(DeltaDiscoveryRequest)
        /// Take this over and call `offerTaken`, or refuse it by `offerRefused`: one offer at a time, whenever it suits.
        case offer(Offer)
        /// Responses were refused: those of these types, with these versions. The control plane has been told.
        case refused(Refusal)
        /// The other side does not speak the protocol: end the stream.
        case endStream(reason: String)
        /// For the log.
        case tell(String)
        /// The stream is open for `patience` and nothing has come.
        case silence
    }

    /// One consistent set of configuration.
    public struct Offer: Hashable, Sendable {
        public var snapshot: Snapshot
        /// References that lead nowhere, though `patience` has passed: the snapshot holds empty things of these names, or nothing.
        public var gaps: [ResourceReference]
        /// What the control plane called each part of it.
        public var versions: [DiscoveredType: String]
    }

    public struct Refusal: Hashable, Sendable {
        public var versions: [DiscoveredType: String]
        public var reason: String
    }

    /// What is wrong with an offer.
    public struct Problem: Hashable, Sendable {
        /// The type of the resource at fault; nil where it cannot be told.
        public var type: DiscoveredType?
        /// Place, expected, found.
        public var text: String

        public init(type: DiscoveredType?, text: String) {
            self.type = type
            self.text = text
        }
    }

    /// How long something that is referred to may take to come, and the first word on a stream (Envoy's initial_fetch_timeout). State of
    /// the world has no way to say that a name does not exist.
    public static let patience = Nanoseconds.seconds(15)
    /// The same where new references keep appearing: the oldest is not waited for longer.
    public static let longestPatience = Nanoseconds.seconds(45)
    /// Of a refusal's text in bytes: a hostile resource shall not make us send, log and keep megabytes.
    static let maxReasonBytes = 8 * 1024
    /// Of one type without an answer on a stream of delta: a control plane waits long before.
    static let maxOpenResponses = 1000
    /// Names of one type that are given up while nothing of that type comes: ten times the clusters that a large mesh has. Beyond, it is
    /// taken for granted that the control plane has read it.
    static let maxGivenUp = 50_000

    private let node: ClientNode
    private let identity: Node
    private let defaults: ProcessSettings
    private let ownSecrets: Set<String>
    private var subscriptions: [DiscoveredType: Subscription]
    private var isOpen = false
    private var variant = Variant.stateOfTheWorld
    private var nodeIsSent = false
    private var silenceAt = Instant.never
    private var missingSince: [ResourceReference: Instant] = [:]
    private var completeBy = Instant.never
    /// What the owner took last.
    private var taken: Snapshot?
    private var offered: OfferState?
    /// Something came while an offer was out.
    private var isDirty = false
    /// The last that was refused, and why: the same again is refused without asking.
    private var refused: (snapshot: Snapshot, problems: [Problem])?

    private struct OfferState {
        var snapshot: Snapshot
        var parts: [DiscoveredType: Collection]
        /// Refused parts replaced by their last good ones.
        var isFallback: Bool
    }

    /// - Parameters:
    ///   - identity: what snapshots are named for.
    ///   - defaults: until process settings come; a control plane that is not ours never sends them.
    ///   - ownSecrets: names of those that the owner has, or makes himself.
    public init(node: ClientNode, identity: Node, defaults: ProcessSettings, ownSecrets: Set<String> = []) {
        self.node = node
        self.identity = identity
        self.defaults = defaults
        self.ownSecrets = ownSecrets
        subscriptions = Dictionary(uniqueKeysWithValues: DiscoveredType.allCases.map { ($0, Subscription()) })
    }

    /// When `deadlineReached` is to be called.
    public var deadline: Instant { min(silenceAt, completeBy) }

    /// Of the parts that were taken last.
    public var takenVersions: [DiscoveredType: String] {
        subscriptions.compactMapValues { $0.taken.version.isEmpty ? nil : $0.taken.version }
    }

    /// What has come last is what runs: nothing is missing, out for an answer, or refused.
    public var isSettled: Bool { taken != nil && offered == nil && refused == nil && missingSince.isEmpty && !hasRefusedResponse }

    private var hasRefusedResponse: Bool { subscriptions.values.contains { $0.answer == .refused || $0.isUnreadable } }

    /// What a complete snapshot waits for.
    public var missing: [ResourceReference] { missingSince.keys.sorted() }

    // MARK: The stream

    public mutating func streamOpened(_ variant: Variant = .stateOfTheWorld, now: Instant) -> [Action] {
        isOpen = true
        nodeIsSent = false
        silenceAt = now + Self.patience
        self.variant = variant
        if variant == .delta { forgetUnaccepted() }
        return DiscoveredType.allCases.flatMap { type in
            type.isWildcard || !subscriptions[type]!.names.isEmpty ? request(type) : []
        }
    }

    /// By delta the control plane is told what is held, so what it may have taken back meanwhile is not kept: it comes again.
    private mutating func forgetUnaccepted() {
        guard offered == nil else { return }
        for type in DiscoveredType.allCases where subscriptions[type]!.isUnaccepted {
            subscriptions[type]!.latest = subscriptions[type]!.taken
            subscriptions[type]!.isUnaccepted = false
            refused = nil
        }
        isOpen = false
        _ = subscribe()
        isOpen = true
    }

    /// Nonces die with their stream; what has come stays.
    public mutating func streamClosed() {
        isOpen = false
        silenceAt = .never
        for type in DiscoveredType.allCases { subscriptions[type]!.forgetStream() }
        if offered != nil {
            for type in DiscoveredType.allCases { offered?.parts[type]?.nonce = "" }
        }
    }

    /// A message of the stream: an encoded DiscoveryResponse or DeltaDiscoveryResponse.
    public mutating func receive(_ message: [UInt8], now: Instant) -> [Action] {
        guard isOpen else { return [] }
        return switch variant {
        case .stateOfTheWorld: receiveWorld(message, now)
        case .delta: receiveDelta(message, now)
        }
    }

    private mutating func receiveDelta(_ message: [UInt8], _ now: Instant) -> [Action] {
        let response: DeltaDiscoveryResponse
        do {
            response = try DeltaDiscoveryResponse(decoding: message)
        } catch {
            return [.endStream(reason: bounded(error.description))]
        }
        silenceAt = .never
        guard let type = DiscoveredType(typeURL: response.typeURL), subscriptions[type]!.isSubscribed else {
            return [.tell("ignored: resources that nobody asked for, of type \"\(response.typeURL.prefix(200))\"")]
        }
        guard subscriptions[type]!.openNonces.count < Self.maxOpenResponses else {
            return [.endStream(reason: "more than \(Self.maxOpenResponses) responses of \(type.name) without waiting for an answer")]
        }
        do throws(WireErrors) {
            try subscriptions[type]!.latest.merge(response, names: type.isWildcard ? nil : Set(subscriptions[type]!.names))
        } catch {
            // This response alone: those before it still wait for theirs.
            let reason = bounded(error.description)
            subscriptions[type]!.isUnreadable = true
            let answer = DeltaDiscoveryRequest(
                typeURL: type.typeURL, responseNonce: response.nonce, errorDetail: RPCStatus(code: 3, message: reason))
            return [.sendDelta(answer), .refused(Refusal(versions: [type: response.systemVersion], reason: reason))]
        }
        subscriptions[type]!.isUnreadable = false
        subscriptions[type]!.nonce = response.nonce
        subscriptions[type]!.openNonces.append(response.nonce)
        subscriptions[type]!.answer = .open
        subscriptions[type]!.isUnaccepted = true
        return subscribe() + evaluate(now: now)
    }

    private mutating func receiveWorld(_ message: [UInt8], _ now: Instant) -> [Action] {
        let response: DiscoveryResponse
        do {
            response = try DiscoveryResponse(decoding: message)
        } catch {
            return [.endStream(reason: bounded(error.description))]
        }
        silenceAt = .never
        guard let type = DiscoveredType(typeURL: response.typeURL), subscriptions[type]!.isSubscribed else {
            // Nothing of ours to keep it in, and an answer would subscribe to it.
            return [.tell("ignored: resources that nobody asked for, of type \"\(response.typeURL.prefix(200))\"")]
        }
        subscriptions[type]!.nonce = response.nonce
        subscriptions[type]!.answer = .open
        do throws(WireErrors) {
            try subscriptions[type]!.latest.merge(response, names: type.isWildcard ? nil : Set(subscriptions[type]!.names))
        } catch {
            let reason = bounded(error.description)
            return refuse(type, reason) + [.refused(Refusal(versions: [type: response.versionInfo], reason: reason))]
        }
        return subscribe() + evaluate(now: now)
    }

    /// `deadline` is due.
    public mutating func deadlineReached(now: Instant) -> [Action] {
        var actions: [Action] = []
        if silenceAt <= now {
            silenceAt = .never
            actions.append(.silence)
        }
        if completeBy <= now { actions += evaluate(now: now) }
        return actions
    }

    // MARK: The owner's answers

    /// The last offer runs.
    public mutating func offerTaken(now: Instant) -> [Action] {
        guard let offer = offered else { preconditionFailure("taken without an offer") }
        offered = nil
        taken = offer.snapshot
        if !offer.isFallback { refused = nil }
        var actions: [Action] = []
        for type in DiscoveredType.allCases {
            guard let part = offer.parts[type] else { continue }
            subscriptions[type]!.taken = part
            if part.nonce == subscriptions[type]!.nonce { actions += acknowledge(type) }
        }
        // What the snapshot before referred to is needed no more.
        actions += subscribe()
        return actions + evaluateIfDirty(now: now)
    }

    /// The last offer cannot run; what ran before runs on.
    ///
    /// Types at fault are refused, and what else came with them is offered again with their last good parts.
    public mutating func offerRefused(_ problems: [Problem], now: Instant) -> [Action] {
        guard let offer = offered else { preconditionFailure("refused without an offer") }
        offered = nil
        guard !offer.isFallback else { return acknowledgeOpen() + evaluateIfDirty(now: now) }
        refused = (offer.snapshot, problems)
        var actions = tellRefusal(of: offer.parts, problems)
        if isDirty { return actions + evaluateIfDirty(now: now) }
        actions += offerFallback(offer.parts, blamed(problems, in: offer.parts))
        return actions
    }

    /// What was refused may run now: a port may be free that was not.
    public mutating func retryRefused(now: Instant) -> [Action] {
        guard offered == nil, refused != nil else { return [] }
        refused = nil
        return evaluate(now: now)
    }

    // MARK: Decisions

    private mutating func evaluateIfDirty(now: Instant) -> [Action] {
        guard isDirty else { return [] }
        isDirty = false
        return evaluate(now: now)
    }

    /// Looks whether what has come makes a snapshot.
    private mutating func evaluate(now: Instant) -> [Action] {
        let parts = subscriptions.mapValues(\.latest)
        let references = References(parts, ownSecrets: ownSecrets)
        let missing = references.missing
        // What does not exist is not waited for.
        let awaited = missing.filter { !parts[$0.type]!.absent.contains($0.name ?? "") }
        missingSince = Dictionary(uniqueKeysWithValues: awaited.map { ($0, missingSince[$0] ?? now) })
        completeBy = .never
        if let newest = missingSince.values.max(), let oldest = missingSince.values.min() {
            let limit = min(newest + Self.patience, oldest + Self.longestPatience)
            guard limit <= now else {
                completeBy = limit
                return acknowledgeOpen()
            }
        }
        if offered != nil {
            isDirty = true
            return []
        }
        let snapshot = assemble(parts, references)
        if snapshot == taken {
            // An equal snapshot of other versions: taken as it is.
            for type in DiscoveredType.allCases { subscriptions[type]!.taken = subscriptions[type]!.latest }
            refused = nil
            return acknowledgeOpen() + subscribe()
        }
        if let refused, refused.snapshot == snapshot {
            return tellRefusal(of: parts, refused.problems)
        }
        return offer(snapshot, parts, missing, isFallback: false)
    }

    private mutating func offer(
        _ snapshot: Snapshot, _ parts: [DiscoveredType: Collection], _ missing: Set<ResourceReference>, isFallback: Bool
    ) -> [Action] {
        offered = OfferState(snapshot: snapshot, parts: parts, isFallback: isFallback)
        let versions = parts.compactMapValues { $0.version.isEmpty ? nil : $0.version }
        return [.offer(Offer(snapshot: snapshot, gaps: missing.sorted(), versions: versions))]
    }

    /// Everything but the types at fault, with the last good of those: clusters may move though a listener is wrong.
    private mutating func offerFallback(_ parts: [DiscoveredType: Collection], _ blamed: Set<DiscoveredType>) -> [Action] {
        guard let taken else { return [] }
        var parts = parts
        for type in blamed { parts[type] = subscriptions[type]!.taken }
        let references = References(parts, ownSecrets: ownSecrets)
        guard references.missing.isEmpty else { return [] }
        let snapshot = assemble(parts, references)
        guard snapshot != taken else { return [] }
        return offer(snapshot, parts, [], isFallback: true)
    }

    private func assemble(_ parts: [DiscoveredType: Collection], _ references: References) -> Snapshot {
        let settings = parts[.nodeSettings]?.settings
        var snapshot = Snapshot(node: settings?.node ?? identity, process: settings?.process ?? defaults)
        for type in DiscoveredType.allCases {
            // What only the snapshot before needs waits here to be forgotten.
            let names = type.isWildcard ? nil : references.names[type, default: []]
            for resource in parts[type]?.resources ?? [] where names?.contains(resource.name) ?? true { snapshot.add(resource) }
        }
        for reference in references.missing.sorted() {
            guard let name = reference.name else { continue }
            switch reference.type {
            case .clusterLoadAssignment: snapshot.loadAssignments.append(ClusterLoadAssignment(clusterName: name, localities: []))
            case .routeConfiguration: snapshot.routeConfigurations.append(RouteConfiguration(name: name, virtualHosts: []))
            case .cluster, .listener, .secret, .nodeSettings: break
            }
        }
        return snapshot
    }

    private func blamed(_ problems: [Problem], in parts: [DiscoveredType: Collection]) -> Set<DiscoveredType> {
        let named = Set(problems.compactMap(\.type))
        guard problems.contains(where: { $0.type == nil }) else { return named }
        // Whatever is new in it.
        return named.union(parts.filter { $0.value != subscriptions[$0.key]!.taken }.keys)
    }

    private mutating func tellRefusal(of parts: [DiscoveredType: Collection], _ problems: [Problem]) -> [Action] {
        let blamed = blamed(problems, in: parts)
        var actions: [Action] = []
        var versions: [DiscoveredType: String] = [:]
        for type in DiscoveredType.allCases where blamed.contains(type) {
            let own = problems.filter { $0.type == nil || $0.type == type }
            versions[type] = parts[type]?.version ?? ""
            subscriptions[type]!.acknowledged = variant == .delta ? "" : subscriptions[type]!.taken.version
            subscriptions[type]!.isUnaccepted = true
            guard isOpen, let part = parts[type], !part.nonce.isEmpty, part.nonce == subscriptions[type]!.nonce,
                subscriptions[type]!.answer != .refused
            else {
                continue
            }
            actions += refuse(type, bounded(own.map(\.text).joined(separator: "\n")))
        }
        actions += acknowledgeOpen()
        actions.append(.refused(Refusal(versions: versions, reason: bounded(problems.map(\.text).joined(separator: "\n")))))
        return actions
    }

    // MARK: Requests

    /// Brings the names that we ask for up to what clusters and listeners refer to: those to come, and those that serve.
    private mutating func subscribe() -> [Action] {
        let (latest, taken) = (subscriptions.mapValues(\.latest), subscriptions.mapValues(\.taken))
        let wanted = References(latest, ownSecrets: ownSecrets).names.merging(References(taken, ownSecrets: ownSecrets).names) {
            $0.union($1)
        }
        var actions: [Action] = []
        for type in DiscoveredType.allCases where !type.isWildcard {
            let names = wanted[type, default: []].sorted()
            subscriptions[type]!.latest.keep(Set(names))
            guard names != subscriptions[type]!.names else { continue }
            if isOpen, variant == .stateOfTheWorld { giveUp(type, Set(subscriptions[type]!.names).subtracting(names)) }
            subscriptions[type]!.names = names
            // With an answer outstanding, the names go with it: a request now would be that answer. In delta it would not.
            if isOpen, variant == .delta || subscriptions[type]!.answer != .open { actions += request(type) }
        }
        return actions
    }

    private mutating func giveUp(_ type: DiscoveredType, _ names: Set<String>) {
        subscriptions[type]!.givenUp.formUnion(names)
        if subscriptions[type]!.givenUp.count > Self.maxGivenUp { subscriptions[type]!.givenUp = [] }
    }

    private mutating func acknowledgeOpen() -> [Action] {
        DiscoveredType.allCases.flatMap { type in subscriptions[type]!.answer == .open ? acknowledge(type) : [] }
    }

    /// Accepts what has come last of a type.
    private mutating func acknowledge(_ type: DiscoveredType) -> [Action] {
        // What came by delta has no version as a whole that state of the world would know.
        subscriptions[type]!.acknowledged = variant == .delta ? "" : subscriptions[type]!.latest.version
        subscriptions[type]!.isUnaccepted = false
        guard isOpen, subscriptions[type]!.answer != .acknowledged, !subscriptions[type]!.nonce.isEmpty else { return [] }
        subscriptions[type]!.answer = .acknowledged
        return request(type, isAnswer: true)
    }

    private mutating func refuse(_ type: DiscoveredType, _ reason: String) -> [Action] {
        subscriptions[type]!.answer = .refused
        // google.rpc.Code INVALID_ARGUMENT.
        return request(type, isAnswer: true, error: RPCStatus(code: 3, message: reason))
    }

    /// Tells what is subscribed, and in delta what is held at its beginning; `isAnswer`: to what has come last.
    private mutating func request(_ type: DiscoveredType, isAnswer: Bool = false, error: RPCStatus? = nil) -> [Action] {
        switch variant {
        case .stateOfTheWorld: worldRequests(type, isAnswer, error)
        case .delta: deltaRequests(type, isAnswer, error)
        }
    }

    private mutating func deltaRequests(_ type: DiscoveredType, _ isAnswer: Bool, _ error: RPCStatus?) -> [Action] {
        var request = DeltaDiscoveryRequest(node: nodeIsSent ? nil : node, typeURL: type.typeURL)
        nodeIsSent = true
        let (names, asked) = (Set(subscriptions[type]!.names), subscriptions[type]!.asked)
        request.subscribe = names.subtracting(asked).sorted()
        request.unsubscribe = asked.subtracting(names).sorted()
        if !subscriptions[type]!.isSubscribed { request.initialVersions = initialVersions(type) }
        subscriptions[type]!.asked = names
        subscriptions[type]!.isSubscribed = true
        guard isAnswer else { return [.sendDelta(request)] }

        // None is open where the answer before is taken back.
        var nonces = subscriptions[type]!.openNonces
        if nonces.isEmpty { nonces = [subscriptions[type]!.nonce] }
        subscriptions[type]!.openNonces = []
        return nonces.enumerated().map { index, nonce in
            var answer = index == 0 ? request : DeltaDiscoveryRequest(typeURL: type.typeURL)
            answer.responseNonce = nonce
            answer.errorDetail = error
            return .sendDelta(answer)
        }
    }

    /// What we hold, so that only what has changed since comes again. Of what was not accepted no version is told: then it does, or is
    /// removed.
    private func initialVersions(_ type: DiscoveredType) -> [String: String] {
        let kind = subscriptions[type]!
        let names = type == .nodeSettings ? kind.latest.versions.keys.sorted() : kind.latest.resources.map(\.name)
        // Settings and listeners come in any case: whoever says nothing at all may not know us.
        let isAskedAnew = type == .nodeSettings || type == .listener
        return Dictionary(
            names.map { name in
                let version = kind.latest.versions[name] ?? ""
                let isHeld = !kind.isUnaccepted || kind.taken.versions[name] == version
                return (name, isHeld && !isAskedAnew ? version : "")
            }, uniquingKeysWith: { first, _ in first })
    }

    private mutating func worldRequests(_ type: DiscoveredType, _ isAnswer: Bool, _ error: RPCStatus?) -> [Action] {
        if !subscriptions[type]!.isSubscribed, subscriptions[type]!.latest.version != subscriptions[type]!.acknowledged {
            // What came last on the stream before is not what we accepted: who is told of that version would not send it again.
            subscriptions[type]!.acknowledged = ""
        }
        subscriptions[type]!.isSubscribed = true
        let kind = subscriptions[type]!
        var request = DiscoveryRequest(
            versionInfo: kind.acknowledged, node: nodeIsSent ? nil : node, resourceNames: kind.names,
            typeURL: type.typeURL, responseNonce: kind.nonce, errorDetail: error)
        nodeIsSent = true
        guard isAnswer else { return [.send(request)] }

        // What was given up and is needed again is forgotten here. The control plane may not know: it need not read a stale request, and
        // while an answer was owed there was none. Then it would not send it again. So this answer, which is read, leaves it out, and the
        // next request adds it. Once only: where the name does not exist and every added name is answered, it would go on for ever.
        subscriptions[type]!.givenUp = []
        var anew = kind.givenUp.intersection(kind.names)
        if !anew.isEmpty { anew.subtract(kind.latest.resources.map(\.name)) }
        if anew.isEmpty { return [.send(request)] }
        var answer = request
        answer.resourceNames.removeAll { anew.contains($0) }
        request.errorDetail = nil
        return [.send(answer), .send(request)]
    }
}

extension Snapshot {
    fileprivate mutating func add(_ resource: DecodedResource) {
        switch resource {
        case .listener(let listener, let inlineRoutes):
            listeners.append(listener)
            routeConfigurations += inlineRoutes
        case .routeConfiguration(let routes): routeConfigurations.append(routes)
        case .cluster(let cluster): clusters.append(cluster)
        case .loadAssignment(let assignment): loadAssignments.append(assignment)
        case .secret(let secret): secrets.append(secret)
        }
    }
}

/// Cut off where it would be too long.
private func bounded(_ text: String) -> String {
    guard text.utf8.count > ADSClient.maxReasonBytes else { return text }
    return String(decoding: text.utf8.prefix(ADSClient.maxReasonBytes), as: UTF8.self) + "..."
}

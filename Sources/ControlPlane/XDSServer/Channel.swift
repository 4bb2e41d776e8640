import Base
import ProxyConfig
import XDSWire

/// One type of resource on one stream: what the client wants, was sent, has accepted and has refused.
struct Channel: Sendable {
    /// A response that is neither accepted nor refused.
    struct Sent: Sendable {
        var nonce: String
        var version: String
        var resources: [String: EncodedResource]
        var removed: [String]
        var since: Instant
        /// The owner was told that no answer comes.
        var isTold = false
    }

    /// What the first request says that the client holds from an earlier stream.
    enum Holding: Sendable {
        /// State of the world: `version_info`.
        case version(String)
        /// Delta: `initial_resource_versions`.
        case versions([String: String])
    }

    let type: StreamedType
    /// A request for this type has come.
    var isOpen = false
    var isWildcard = false
    /// So it became by asking for nothing in particular.
    var isLegacyWildcard = false
    /// Explicit names.
    var names: Set<String> = []
    /// Until the first set is there to compare it with.
    var holding: Holding?
    /// The last that was sent of each, accepted or not, and not removed since.
    var sent: [String: EncodedResource] = [:]
    var accepted: [String: EncodedResource] = [:]
    /// The version in which each was refused. While it is what is wanted, it is not sent again.
    var refused: [String: String] = [:]
    /// Of clusters: what listeners and routes of the client may lead to. Until those have moved, it stays.
    var inUse: [String: EncodedResource] = [:]
    /// The version of the response that was refused last.
    private(set) var refusedVersion = ""
    /// The response that was accepted last, and what was before it: a client may find later that it cannot use it after all.
    private(set) var lastAccepted: (message: Sent, before: [String: EncodedResource])?
    private var lastRefused: Sent?
    var inFlight: [Sent] = []
    /// The last one sent; empty = none.
    var nonce = ""
    /// Asked for, and to be answered even if nothing has changed.
    var owed: Set<String> = []
    /// The same for the type as a whole, even if there is nothing of it.
    var isAnswerOwed = false
    /// Load assignments without which a changed cluster would not get warm.
    var resend: Set<String> = []

    init(_ type: StreamedType) {
        self.type = type
    }

    func wants(_ name: String) -> Bool { isWildcard || names.contains(name) }

    /// The client has it as it was sent last.
    func holds(_ name: String) -> Bool { accepted[name] != nil && sent[name]?.version == accepted[name]?.version }

    /// Nothing is under way, refused or owed.
    var isQuiet: Bool { inFlight.isEmpty && refused.isEmpty && owed.isEmpty && !isAnswerOwed && resend.isEmpty }

    /// After the client wants less: what it does not want it forgets.
    mutating func forgetUnwanted() {
        guard !isWildcard else { return }
        sent = sent.filter { names.contains($0.key) }
        accepted = accepted.filter { names.contains($0.key) }
        refused = refused.filter { names.contains($0.key) }
        owed.formIntersection(names)
        resend.formIntersection(names)
        if names.isEmpty { isAnswerOwed = false }
    }

    /// What the client shall have. Of a name that does not exist there is nothing; but in state of the world, which has no word for that,
    /// an empty assignment, since without one a client waits 15 seconds for the endpoints of a cluster.
    func wanted(in set: ResourceSet, isDelta: Bool) -> [String: EncodedResource] {
        let all = set.resources[type] ?? [:]
        if isWildcard { return all }
        var wanted: [String: EncodedResource] = [:]
        for name in names {
            wanted[name] = all[name]
            guard wanted[name] == nil, type == .clusterLoadAssignment, !isDelta else { continue }
            // One that the client has, and no cluster of the set needs, serves a cluster that is about to go: it is left as it is.
            if sent[name] == nil || set.needsAssignment(name) {
                wanted[name] = EncodedResource(ClusterLoadAssignment(clusterName: name, localities: []))
            }
        }
        return wanted
    }

    /// The client's answer to the response at `index`.
    mutating func settle(_ index: Int, isAccepted: Bool) -> Sent {
        let message = inFlight.remove(at: index)
        if isAccepted { lastAccepted = (message, accepted) } else { refusedVersion = message.version }
        lastRefused = isAccepted ? nil : message
        for (name, resource) in message.resources where wants(name) {
            if isAccepted {
                accepted[name] = resource
                refused[name] = nil
            } else {
                refused[name] = resource.version
            }
        }
        if isAccepted {
            for name in accepted.keys where sent[name] == nil { accepted[name] = nil }
        }
        return message
    }

    /// The client runs what it has refused last.
    mutating func accept() -> Sent? {
        guard inFlight.isEmpty, let message = lastRefused, message.nonce == nonce else { return nil }
        lastRefused = nil
        for (name, resource) in message.resources where refused[name] == resource.version {
            accepted[name] = resource
            refused[name] = nil
        }
        return message
    }

    /// The client takes back what it said of the last response.
    mutating func revoke() -> Sent? {
        guard inFlight.isEmpty, let last = lastAccepted else { return nil }
        lastAccepted = nil
        refusedVersion = last.message.version
        lastRefused = last.message
        accepted = last.before
        for (name, resource) in last.message.resources where wants(name) { refused[name] = resource.version }
        return last.message
    }
}

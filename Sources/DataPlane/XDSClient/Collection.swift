import Base
import ProxyConfig
import XDSWire

/// All that has come of one type.
struct Collection: Hashable, Sendable {
    /// What the control plane calls it.
    private(set) var version = ""
    /// Of the response that brought it last; empty if that came on another stream.
    var nonce = ""
    /// Some response has come.
    private(set) var isThere = false
    /// In the order in which they were sent: a snapshot that is put together from them is the one that was taken apart.
    private(set) var resources: [DecodedResource] = []
    private(set) var settings: NodeSettings?
    /// By name, what the control plane calls each; only what came by delta has one.
    private(set) var versions: [String: String] = [:]
    /// Names that were asked for, and of which the control plane has said that there is nothing. Only delta has a word for that.
    private(set) var absent: Set<String> = []

    /// Takes in a response.
    ///
    /// - Parameter names: what was asked for; nil = everything, and what is not in the response is deleted. Of what is asked for by
    ///   name, what is not in it stays, and what nobody asked for is not kept.
    /// - Throws: every error of every resource in it; nothing is changed then.
    mutating func merge(_ response: DiscoveryResponse, names: Set<String>?) throws(WireErrors) {
        if response.typeURL == NodeSettings.typeURL {
            settings = try NodeSettings(response)
        } else {
            merge(try response.decodeResources(), names: names)
        }
        version = response.versionInfo
        nonce = response.nonce
        isThere = true
        versions = [:]
        absent = []
    }

    /// Takes in a response of delta: what is in it is new or another, what it names as removed is gone, all else stays.
    ///
    /// What was asked for by name stays until nothing refers to it, as with Envoy: its removal may overtake that of its users.
    ///
    /// - Parameter names: what was asked for; nil = everything.
    /// - Throws: every error of every resource in it; nothing is changed then.
    mutating func merge(_ response: DeltaDiscoveryResponse, names: Set<String>?) throws(WireErrors) {
        if response.typeURL == NodeSettings.typeURL {
            if response.resources.isEmpty {
                if !response.removed.isEmpty { settings = nil }
            } else {
                let messages = response.resources.map(\.message)
                settings = try NodeSettings(
                    DiscoveryResponse(versionInfo: response.systemVersion, resources: messages, typeURL: response.typeURL))
            }
        } else {
            merge(try response.decodeResources(), removed: response.removed, names: names)
        }
        for resource in response.resources where names?.contains(resource.name) ?? true { versions[resource.name] = resource.version }
        if names == nil { for name in response.removed { versions[name] = nil } }
        version = response.systemVersion
        nonce = response.nonce
        isThere = true
    }

    private mutating func merge(_ sent: [DecodedResource], removed: [String], names: Set<String>?) {
        var news = Dictionary(
            sent.lazy.filter { names?.contains($0.name) ?? true }.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        absent.subtract(news.keys)
        let gone = Set(removed)
        if let names {
            let held = Set(resources.map(\.name))
            absent.formUnion(gone.intersection(names).subtracting(held))
        } else if !gone.isEmpty {
            resources.removeAll { gone.contains($0.name) }
        }
        for (index, resource) in resources.enumerated() {
            if let new = news.removeValue(forKey: resource.name) { resources[index] = new }
        }
        resources += news.values
        // Delta knows no order. By name is how our control plane takes snapshots apart.
        resources.sort { $0.name < $1.name }
    }

    private mutating func merge(_ sent: [DecodedResource], names: Set<String>?) {
        guard let names else {
            resources = sent
            return
        }
        let sent = sent.filter { names.contains($0.name) }
        // A response with all that was asked for tells the order too.
        if sent.count == names.count {
            resources = sent
            return
        }
        var news = Dictionary(sent.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        for (index, resource) in resources.enumerated() {
            if let new = news.removeValue(forKey: resource.name) { resources[index] = new }
        }
        resources += sent.filter { news[$0.name] != nil }
    }

    /// Forgets what nothing refers to any more.
    mutating func keep(_ names: Set<String>) {
        if resources.contains(where: { !names.contains($0.name) }) { resources.removeAll { !names.contains($0.name) } }
        if versions.keys.contains(where: { !names.contains($0) }) { versions = versions.filter { names.contains($0.key) } }
        absent.formIntersection(names)
    }
}

/// The state of one type's subscription.
struct Subscription: Sendable {
    enum Answer {
        /// Owed: a response waits for it.
        case open
        case acknowledged
        case refused
    }

    /// Asked for; empty for what is subscribed whole.
    var names: [String] = []
    /// What has come and could be read.
    var latest = Collection()
    /// What the owner took last.
    var taken = Collection()
    /// The version that we say we have.
    var acknowledged = ""
    /// Of delta: something in `latest` was not acknowledged.
    var isUnaccepted = false

    // Of the stream that is open.
    var isSubscribed = false
    /// Of the last response, good or bad.
    var nonce = ""
    /// To that response; nil before there is one.
    var answer: Answer?
    /// Of state of the world: names that are asked for no more, or were not for a while, since the last answer.
    var givenUp: Set<String> = []
    /// Of delta: the names that the control plane knows of.
    var asked: Set<String> = []
    /// Of delta: the responses that wait for an answer. In state of the world only the last of a type gets one.
    var openNonces: [String] = []
    /// Of delta: the last response could not be read, and was refused by itself.
    var isUnreadable = false

    mutating func forgetStream() {
        isSubscribed = false
        nonce = ""
        answer = nil
        givenUp = []
        asked = []
        openNonces = []
        isUnreadable = false
        latest.nonce = ""
        taken.nonce = ""
    }
}

/// What a set of resources refers to.
struct References {
    /// What is asked for by name.
    private(set) var names: [DiscoveredType: Set<String>] = [:]
    /// What is not there.
    private(set) var missing: Set<ResourceReference> = []
    private let ownSecrets: Set<String>

    /// - Parameter ownSecrets: that need not come: they are neither asked for nor missing.
    init(_ parts: [DiscoveredType: Collection], ownSecrets: Set<String>) {
        self.ownSecrets = ownSecrets
        for type in [DiscoveredType.cluster, .listener] {
            if parts[type]?.isThere != true { missing.insert(ResourceReference(type: type, name: nil)) }
            for resource in parts[type]?.resources ?? [] { add(resource) }
        }
        let routes = names[.routeConfiguration, default: []]
        for resource in parts[.routeConfiguration]?.resources ?? [] where routes.contains(resource.name) { add(resource) }
        for (type, names) in names {
            let there = Set((parts[type]?.resources ?? []).map(\.name))
            for name in names where !there.contains(name) { missing.insert(ResourceReference(type: type, name: name)) }
        }
    }

    private mutating func add(_ resource: DecodedResource) {
        for key in resource.references {
            let type = DiscoveredType(key.type)
            if type == .secret, ownSecrets.contains(key.name) { continue }
            names[type, default: []].insert(key.name)
        }
    }
}

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

    // Of the stream that is open.
    var isSubscribed = false
    /// Of the last response, good or bad.
    var nonce = ""
    /// To that response; nil before there is one.
    var answer: Answer?

    mutating func forgetStream() {
        isSubscribed = false
        nonce = ""
        answer = nil
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

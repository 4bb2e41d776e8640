import Base
import ProxyConfig
import Testing
import XDSWire

@testable import XDSServer

/// A client as Envoy is: everything of clusters and listeners, the rest by the names that these refer to. It refuses what is bad in the
/// sense of `World`, and checks at every step that nothing it holds leads nowhere.
struct ModelClient {
    let variant: DiscoveryStream.Variant
    /// Of a response that it refuses it takes what is good, as Envoy may do.
    let takesParts: Bool
    /// By type and name.
    var held: [ResourceType: [String: EncodedResource]] = [:]
    var versions: [ResourceType: String] = [:]
    private var nonces: [ResourceType: String] = [:]
    private var names: [ResourceType: Set<String>] = [:]
    private var isStarted: Set<ResourceType> = []
    private var isNodeSent = false
    var outbox: [[UInt8]] = []
    var received = 0
    var problems: [String] = []
    private var warm: Set<String> = []
    private var known: [EncodedResource: Set<ResourceKey>] = [:]

    init(_ variant: DiscoveryStream.Variant, takesParts: Bool) {
        self.variant = variant
        self.takesParts = takesParts
    }

    static let node = {
        var node = ClientNode(Node(mesh: "m", role: .virtualNode, name: "n"))
        node.userAgentName = "envoy"
        return node
    }()

    mutating func streamOpened() {
        nonces = [:]
        isStarted = []
        isNodeSent = false
        outbox = []
        for type in [ResourceType.cluster, .clusterLoadAssignment, .secret, .listener, .routeConfiguration] { start(type) }
    }

    private mutating func start(_ type: ResourceType) {
        let isWhole = type == .cluster || type == .listener
        if !isWhole, names[type, default: []].isEmpty { return }
        isStarted.insert(type)
        switch variant {
        case .stateOfTheWorld: request(type, versions[type] ?? "")
        case .delta:
            let known = (held[type] ?? [:]).mapValues(\.version)
            send(
                DeltaDiscoveryRequest(
                    node: takeNode(), typeURL: type.typeURL, subscribe: names[type, default: []].sorted(), initialVersions: known))
        }
    }

    private mutating func takeNode() -> ClientNode? {
        defer { isNodeSent = true }
        return isNodeSent ? nil : Self.node
    }

    private mutating func request(_ type: ResourceType, _ version: String, error: RPCStatus? = nil) {
        let request = DiscoveryRequest(
            versionInfo: version, node: takeNode(), resourceNames: names[type, default: []].sorted(), typeURL: type.typeURL,
            responseNonce: nonces[type] ?? "", errorDetail: error)
        outbox.append(request.encoded())
    }

    private mutating func send(_ request: DeltaDiscoveryRequest) { outbox.append(request.encoded()) }

    mutating func receive(_ bytes: [UInt8]) throws {
        received += 1
        switch variant {
        case .stateOfTheWorld:
            let response = try DiscoveryResponse(decoding: bytes)
            let type = try #require(ResourceType(rawValue: response.typeURL))
            let resources = try response.decodeResources()
            let encoded = zip(resources, response.resources).map { EncodedResource(name: $0.name, message: $1) }
            nonces[type] = response.nonce
            let isBad = take(type, encoded, resources, removed: [], isWhole: type == .cluster || type == .listener)
            if !isBad { versions[type] = response.versionInfo }
            subscribeWorld(after: type, isBad: isBad)
        case .delta:
            let response = try DeltaDiscoveryResponse(decoding: bytes)
            let type = try #require(ResourceType(rawValue: response.typeURL))
            let resources = try response.decodeResources()
            #expect(!response.nonce.isEmpty && response.resources.allSatisfy { !$0.version.isEmpty })
            let isBad = take(type, response.resources, resources, removed: response.removed, isWhole: false)
            send(
                DeltaDiscoveryRequest(
                    typeURL: type.typeURL, responseNonce: response.nonce, errorDetail: isBad ? RPCStatus(code: 3, message: "bad") : nil))
            subscribeDelta()
        }
        check()
    }

    /// - Returns: whether anything in it is bad.
    private mutating func take(
        _ type: ResourceType, _ encoded: [EncodedResource], _ decoded: [DecodedResource], removed: [String], isWhole: Bool
    ) -> Bool {
        let bad = Set(decoded.filter(\.isBad).map(\.name))
        if !bad.isEmpty, !takesParts { return true }
        var mine = isWhole && bad.isEmpty ? [:] : held[type, default: [:]]
        let isMine = type == .cluster || type == .listener ? nil : names[type]
        for resource in encoded where !bad.contains(resource.name) && isMine?.contains(resource.name) ?? true {
            mine[resource.name] = resource
        }
        if bad.isEmpty { for name in removed { mine[name] = nil } }
        held[type] = mine
        return !bad.isEmpty
    }

    /// Reading a resource again and again would take the most of the time.
    private mutating func references(_ type: ResourceType, _ resource: EncodedResource) -> Set<ResourceKey> {
        if let known = known[resource] { return known }
        let references = (try? resource.decode(type))?.references ?? []
        known[resource] = references
        return references
    }

    private mutating func wanted() -> [ResourceType: Set<String>] {
        var wanted: [ResourceType: Set<String>] = [:]
        for type in [ResourceType.cluster, .listener] {
            for resource in held[type, default: [:]].values {
                for key in references(type, resource) { wanted[key.type, default: []].insert(key.name) }
            }
        }
        return wanted
    }

    private static let named: [ResourceType] = [.clusterLoadAssignment, .secret, .routeConfiguration]

    private mutating func forget(_ type: ResourceType) {
        held[type] = held[type]?.filter { names[type, default: []].contains($0.key) }
    }

    private mutating func subscribeWorld(after type: ResourceType, isBad: Bool) {
        let wanted = wanted()
        var changed: [ResourceType] = []
        for type in Self.named where names[type, default: []] != wanted[type, default: []] {
            names[type] = wanted[type, default: []]
            forget(type)
            changed.append(type)
        }
        request(type, versions[type] ?? "", error: isBad ? RPCStatus(code: 3, message: "bad") : nil)
        for other in changed where other != type {
            if isStarted.contains(other) { request(other, versions[other] ?? "") } else { start(other) }
        }
    }

    private mutating func subscribeDelta() {
        let wanted = wanted()
        for type in Self.named where names[type, default: []] != wanted[type, default: []] {
            let (before, after) = (names[type, default: []], wanted[type, default: []])
            names[type] = after
            forget(type)
            guard isStarted.contains(type) else {
                start(type)
                continue
            }
            send(
                DeltaDiscoveryRequest(
                    typeURL: type.typeURL, subscribe: after.subtracting(before).sorted(), unsubscribe: before.subtracting(after).sorted()))
        }
    }

    /// Make before break: what a route leads to is there and warm. A cluster that changes serves as it was until its new form is warm.
    private mutating func check() {
        let clusters = held[.cluster, default: [:]]
        warm = warm.filter { clusters[$0] != nil }
        for (name, cluster) in clusters {
            let needs = references(.cluster, cluster)
            if needs.allSatisfy({ held[$0.type]?[$0.name] != nil }) { warm.insert(name) }
        }
        for listener in held[.listener, default: [:]].values {
            for key in references(.listener, listener) where key.type == .routeConfiguration {
                guard let routes = held[.routeConfiguration]?[key.name] else { continue }  // It warms.
                for need in references(.routeConfiguration, routes) where !warm.contains(need.name) {
                    problems.append("\(key) leads to \(need), which is \(clusters[need.name] == nil ? "not there" : "cold")")
                }
            }
        }
    }

    private static func text(_ versions: [String: String]) -> String {
        versions.map { "\($0)@\($1.prefix(4))" }.sorted().joined(separator: " ")
    }

    /// What of a world it should hold in the end.
    func differences(from world: World) throws -> [String] {
        var differences: [String] = []
        let expected = world.snapshot.encodedResources()
        let needed = Set(try expected.flatMap { type, resources in try resources.flatMap { try $0.decode(type).references } })
        for type in ResourceType.allCases {
            let isWhole = type == .cluster || type == .listener
            let right = Dictionary(
                uniqueKeysWithValues: (expected[type] ?? []).filter { isWhole || needed.contains(ResourceKey(type, $0.name)) }.map {
                    ($0.name, $0.version)
                })
            let mine = (held[type] ?? [:]).mapValues(\.version)
            if mine != right {
                differences.append("\(type.name): has \(Self.text(mine)), should have \(Self.text(right))")
            }
        }
        return differences
    }
}

extension DecodedResource {
    fileprivate var isBad: Bool {
        switch self {
        case .cluster(let cluster): cluster.connectTimeout == .seconds(World.bad)
        case .routeConfiguration(let routes): routes.virtualHosts.contains { $0.name == "bad" }
        default: false
        }
    }
}

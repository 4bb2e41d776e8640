/// XDSServer decides what one client's ADS stream gets, and in which order. It owns no socket and no clock.

import Base
public import ProxyConfig
public import XDSWire

/// Everything that one proxy shall have, encoded once. Immutable: every stream of the proxy's instances shares it.
public final class ResourceSet: Sendable {
    /// The hash of everything in it.
    public let version: String
    let resources: [StreamedType: [String: EncodedResource]]
    /// What listeners, route configurations and clusters need beside themselves.
    let references: [ResourceKey: Set<ResourceKey>]
    private let assignmentsNeeded: Set<String>

    /// A snapshot as `program` understands it: see `EnvoyView` and `GRPCView`.
    public convenience init(_ snapshot: Snapshot, for program: ClientNode.Program = .outrigger) {
        switch program {
        case .outrigger:
            self.init(snapshot, settings: NodeSettings(node: snapshot.node, process: snapshot.process))
        case .envoy, .other:
            self.init(snapshot.viewOfEnvoy())
        case .grpc:
            let view = GRPCView(snapshot)
            self.init(view.snapshot, apiListeners: view.listeners, clusters: view.clusters)
        }
    }

    /// The same with other endpoints: what an endpoint change costs is the encoding of what has changed.
    ///
    /// - Parameters:
    ///   - loadAssignments: put in place of those of the same names, or added.
    ///   - program: as for `base`.
    public convenience init(
        _ base: ResourceSet, replacing loadAssignments: [ClusterLoadAssignment], for program: ClientNode.Program = .outrigger
    ) {
        var resources = base.resources
        for assignment in loadAssignments {
            let encoded = EncodedResource(program == .grpc ? GRPCView.assignment(assignment) : assignment)
            resources[.clusterLoadAssignment, default: [:]][encoded.name] = encoded
        }
        self.init(resources: resources, references: base.references)
    }

    private convenience init(
        _ snapshot: Snapshot, settings: NodeSettings? = nil, apiListeners: [APIListener] = [], clusters: [EncodedResource]? = nil
    ) {
        var resources: [StreamedType: [String: EncodedResource]] = [:]
        var references: [ResourceKey: Set<ResourceKey>] = [:]
        func add(_ type: StreamedType, _ resource: EncodedResource) {
            resources[type, default: [:]][resource.name] = resource
        }
        // A proxy's own certificate never comes from here, and is never asked for: nothing waits for it.
        let own = ResourceKey(.secret, Secret.identityName)
        func refer(_ key: ResourceKey, to needed: Set<ResourceKey>) {
            let needed = needed.subtracting([own])
            if !needed.isEmpty { references[key] = needed }
        }
        if let settings {
            add(.settings, EncodedResource(name: "settings", message: AnyMessage(typeURL: NodeSettings.typeURL, value: settings.encoded())))
        }
        for secret in snapshot.secrets { add(.secret, EncodedResource(secret)) }
        for cluster in clusters ?? snapshot.clusters.map({ EncodedResource($0) }) { add(.cluster, cluster) }
        for cluster in snapshot.clusters { refer(ResourceKey(.cluster, cluster.name), to: cluster.references) }
        for assignment in snapshot.loadAssignments { add(.clusterLoadAssignment, EncodedResource(assignment)) }
        for listener in snapshot.listeners {
            add(.listener, EncodedResource(listener))
            refer(ResourceKey(.listener, listener.name), to: listener.references)
        }
        for listener in apiListeners {
            add(.listener, EncodedResource(listener))
            refer(ResourceKey(.listener, listener.name), to: [ResourceKey(.routeConfiguration, listener.routeConfigurationName)])
        }
        for routes in snapshot.routeConfigurations {
            add(.routeConfiguration, EncodedResource(routes))
            refer(ResourceKey(.routeConfiguration, routes.name), to: routes.references)
        }
        self.init(resources: resources, references: references)
    }

    private init(resources: [StreamedType: [String: EncodedResource]], references: [ResourceKey: Set<ResourceKey>]) {
        self.resources = resources
        self.references = references
        assignmentsNeeded = Set(references.values.joined().lazy.filter { $0.type == .clusterLoadAssignment }.map(\.name))
        var hash = ContentHash()
        for type in StreamedType.allCases {
            hash.combine(type.typeURL.utf8)
            hash.combine(contentVersion((resources[type] ?? [:]).values).utf8)
        }
        version = hash.description
    }

    func resource(_ key: ResourceKey) -> EncodedResource? { resources[StreamedType(key.type)]?[key.name] }

    /// Whether a cluster of the set gets its endpoints from this assignment.
    func needsAssignment(_ name: String) -> Bool { assignmentsNeeded.contains(name) }
}

/// A property of the content, whatever stream it is on: the hash of names and versions, in order.
func contentVersion(_ resources: some Collection<EncodedResource>) -> String {
    var hash = ContentHash()
    for resource in resources.sorted(by: { $0.name < $1.name }) {
        hash.combine(resource.name.utf8)
        hash.combine([0])
        hash.combine(resource.version.utf8)
        hash.combine([0])
    }
    return hash.description
}

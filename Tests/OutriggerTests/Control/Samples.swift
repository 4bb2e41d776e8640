import ControlAPI

/// Messages that tests start from.
enum Sample {
    static func name(_ kind: String, _ name: String, _ namespace: String? = "shop") -> ResourceName {
        ResourceName(kind: kind, namespace: namespace, name: name)
    }

    static func change(_ kind: String, _ name: String, _ action: ResourceChange.Action) -> ResourceChange {
        ResourceChange(resource: Sample.name(kind, name), action: action)
    }

    static func item(_ kind: String, _ name: String, _ namespace: String? = "shop", revision: Int = 3, document: String = "")
        -> ResourceItem
    {
        ResourceItem(
            resource: Sample.name(kind, name, namespace), apiVersion: "appmesh.k8s.aws/v1beta2", generation: 2, revision: revision,
            created: "2026-11-23T12:00:00.000Z", changed: "2026-11-23T13:59:30.000Z", document: document)
    }

    static func node(
        _ name: String, wanted: String? = "aaaa", acknowledged: String? = "aaaa", applied: String? = "aaaa", rejection: String? = nil,
        isConnected: Bool = true, agent: String = "outrigger 0.1.0"
    ) -> NodeItem {
        var node = NodeItem(
            subject: Sample.name("VirtualNode", name), mesh: "m", instance: "host-1", agent: agent, isConnected: isConnected,
            state: isConnected ? "live" : "lost")
        (node.wanted, node.acknowledged, node.applied, node.rejection) = (wanted, acknowledged, applied, rejection)
        node.configAge = 2
        node.lastSeen = "2026-11-23T13:59:58.000Z"
        return node
    }

    static func status(
        _ nodes: [NodeItem], revision: Int = 3, compiled: Int? = 3, faults: [DiagnosticMessage] = [], rollout: RolloutItem? = nil
    ) -> MeshStatus {
        MeshStatus(
            version: "0.1.0", revision: revision, started: "2026-11-23T11:00:00.000Z", resources: 12, nodes: nodes, faults: faults,
            rollout: rollout, compiledRevision: compiled)
    }

    static func rollout(_ state: String, stage: Int = 0, reason: String? = nil) -> RolloutItem {
        RolloutItem(
            id: "3", revision: 3, from: 2, state: state, stages: ["1", "25%", "100%"], stage: stage, reached: 1, of: 4,
            started: "2026-11-23T13:59:00.000Z", reason: reason)
    }

    static let applied = ChangeResult(
        revision: 3,
        changes: [
            change("VirtualNode", "cart", .created), change("VirtualRouter", "color", .configured), change("Mesh", "m", .unchanged),
        ])
}

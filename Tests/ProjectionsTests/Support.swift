import EventStore
import Foundation
import MeshModel
import MeshYAML
import Projections

/// Events in the form of the log, without one.
struct Chain {
    private(set) var events: [StoredEvent] = []

    /// Adds one batch.
    @discardableResult
    mutating func append(_ batch: [MeshEvent], actor: String = "user:alice", reason: String = "", time: Int64? = nil) -> [StoredEvent] {
        let first = events.count + 1
        for (index, event) in batch.enumerated() {
            events.append(
                StoredEvent(
                    event.draft, sequence: first + index, batch: first, following: batch.count - 1 - index,
                    time: UnixTime(milliseconds: time ?? Int64(first) * 1000), actor: actor, reason: reason,
                    previousHash: events.last?.hash ?? .none))
        }
        return Array(events.suffix(batch.count))
    }
}

/// A mesh under commands: what a control plane does with plans, without a disk.
struct Workshop {
    private(set) var chain = Chain()
    private(set) var models = ReadModels()

    var state: DesiredState { models.desired }

    mutating func run(_ plan: ChangePlan, reason: String = "", time: Int64? = nil) throws {
        guard !plan.events.isEmpty else { return }
        try models.apply(chain.append(plan.events, reason: reason, time: time))
    }

    @discardableResult
    mutating func apply(_ text: String, file: String = "app.yaml", reason: String = "", time: Int64? = nil) throws -> ChangePlan {
        let plan = try Command.plan(apply: [ManifestFile(name: file, bytes: Array(text.utf8))], onto: state).get()
        try run(plan, reason: reason, time: time)
        return plan
    }

    mutating func record(_ events: MeshEvent..., time: Int64? = nil) throws {
        try models.apply(chain.append(events, actor: "system", time: time))
    }
}

enum Texts {
    static let mesh = """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: Mesh
        metadata: {name: demo}
        spec: {namespaceSelector: {}}

        """

    static func node(_ name: String, port: Int = 8080, note: String = "") -> String {
        """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata:
          name: \(name)
          namespace: shop
        spec:\(note)
          listeners:
            - portMapping: {port: \(port), protocol: http}
          serviceDiscovery: {dns: {hostname: \(name).local}}

        """
    }

    static func service(_ name: String, of node: String) -> String {
        """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualService
        metadata: {name: \(name), namespace: shop}
        spec: {awsName: \(name).local, provider: {virtualNode: {virtualNodeRef: {name: \(node)}}}}

        """
    }

    static func nodeKey(_ name: String) -> ObjectKey { ObjectKey(ResourceKey(kind: .virtualNode, namespace: "shop", name: name)) }
    static func serviceKey(_ name: String) -> ObjectKey { ObjectKey(ResourceKey(kind: .virtualService, namespace: "shop", name: name)) }
    static let meshKey = ObjectKey(ResourceKey(kind: .mesh, namespace: nil, name: "demo"))
}

func joined(_ documents: String...) -> String { documents.joined(separator: "---\n") }

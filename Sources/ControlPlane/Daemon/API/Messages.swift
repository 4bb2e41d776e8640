import ControlAPI
import EventStore
import Foundation
import MeshModel
import MeshYAML
import Projections

extension ManifestFile {
    init(_ source: SourceText) {
        self.init(name: source.name, bytes: Array(source.text.utf8))
    }
}

extension ObjectKey {
    /// Nil: there is no such kind.
    init?(_ name: ResourceName, defaultNamespace: String) {
        if name.kind == Self.namespaceKind {
            self.init(namespace: name.name)
            return
        }
        guard let kind = ResourceKind(rawValue: name.kind) else { return nil }
        self.init(ResourceKey(kind: kind, namespace: kind.isNamespaced ? name.namespace ?? defaultNamespace : nil, name: name.name))
    }
}

extension ResourceList {
    init(_ state: DesiredState, kind: String?, namespace: String?, name: String?) {
        let keys = state.objects.keys.filter { key in
            (kind == nil || key.kind == kind) && (namespace == nil || key.namespace == namespace) && (name == nil || key.name == name)
        }
        self.init(
            revision: state.revision,
            items: keys.sorted().map { key in
                let object = state.objects[key]!
                return ResourceItem(
                    resource: ResourceName(key), apiVersion: key.resource?.kind.apiVersion ?? "v1", generation: object.generation,
                    revision: object.revision, created: object.created.text, changed: object.changed.text, document: object.document)
            })
    }
}

extension ResourceDifference {
    init(_ difference: ObjectDifference) {
        self.init(
            change: ResourceChange(resource: ResourceName(difference.key), action: ResourceChange.Action(difference.action)),
            text: difference.text)
    }

    /// What an event would change in a state; nil for events that are about something else.
    init?(_ event: MeshEvent, before state: DesiredState) {
        let key: ObjectKey
        let after: String
        switch event {
        case .resourceApplied(let object), .namespaceApplied(let object): (key, after) = (object.key, object.document)
        case .resourceDeleted(let deleted), .namespaceDeleted(let deleted): (key, after) = (deleted, "")
        default: return nil
        }
        let before = state.objects[key]?.document
        self.init(
            change: ResourceChange(
                resource: ResourceName(key), action: before == nil ? .created : after.isEmpty ? .deleted : .configured),
            text: TextDifference.unified(
                before ?? "", after, from: before == nil ? "/dev/null" : "\(key) (the mesh)", to: after.isEmpty ? "/dev/null" : "\(key)"))
    }
}

extension HistoryItem {
    init(_ revision: History.Revision) {
        self.init(
            revision: revision.number, sequence: revision.first, time: revision.time.text, actor: revision.actor,
            reason: revision.reason.isEmpty ? nil : revision.reason,
            changes: revision.changes.map {
                ResourceChange(resource: ResourceName($0.key), action: ResourceChange.Action($0.action))
            })
    }
}

extension EventItem {
    init(_ stored: StoredEvent) {
        let summary = (try? MeshEvent(stored)).map(Self.summary) ?? stored.kind
        self.init(
            sequence: stored.sequence, time: stored.time.text, actor: stored.actor, reason: stored.reason.isEmpty ? nil : stored.reason,
            kind: stored.kind, summary: summary)
    }

    private static func summary(_ event: MeshEvent) -> String {
        switch event {
        case .resourceApplied(let object), .namespaceApplied(let object): "\(object.key) applied from \(object.file):\(object.line)"
        case .resourceDeleted(let key), .namespaceDeleted(let key): "\(key) deleted"
        case .commandNote(let note): "\(note.command)\(note.revision.map { " to revision \($0)" } ?? "") \(note.text)"
        case .nodeRegistered(let node): "\(node.node) \(node.instance) registered at \(node.address)"
        case .nodeReady(let change): "\(change.instance) is ready"
        case .nodeDraining(let change): "\(change.instance) drains"
        case .nodeLeft(let change): "\(change.instance) left: \(change.reason)"
        case .snapshotWanted(let change): "\(change.instance) should run \(change.version)"
        case .snapshotAcknowledged(let change): "\(change.instance) accepted \(change.version)"
        case .snapshotRefused(let change): "\(change.instance) refused \(change.version): \(change.reason)"
        case .snapshotApplied(let change): "\(change.instance) runs \(change.version)"
        case .rolloutStarted(let start):
            "rollout of revision \(start.revision) started: \(start.stages.joined(separator: ", ")), back to \(start.previous) if it fails"
        case .rolloutStageStarted(let stage):
            "rollout of revision \(stage.revision): stage \(stage.stage + 1), \(stage.instances.count) proxies"
        case .rolloutStageCompleted(let stage): "rollout of revision \(stage.revision): stage \(stage.stage + 1) completed"
        case .rolloutCompleted(let end): "rollout of revision \(end.revision) completed"
        case .rolloutCompensated(let end): "rollout of revision \(end.revision) taken back: \(end.reason)"
        case .rolloutStopped(let end): "rollout of revision \(end.revision) stopped: \(end.reason)"
        case .tokenCreated(let token): "token \(token.id) (\(token.role)) created"
        case .tokenUsed(let change): "token \(change.id) used\(change.instance.map { " by \($0)" } ?? "")"
        case .tokenRevoked(let change): "token \(change.id) revoked"
        case .certificateIssued(let certificate): "certificate \(certificate.serial) issued for \(certificate.identity)"
        case .authorityCreated(let change): "authority \(change.authority.prefix(16)) created"
        case .authorityRotated(let change): "authority \(change.authority.prefix(16)) follows"
        case .breakerForced(let forced): "\(forced.target) forced to \(forced.action) until \(forced.until.text)"
        case .breakerReleased(let release): "\(release.target) released"
        }
    }
}

public import EventStore
import Foundation

/// An event of the log that cannot be understood.
public struct EventError: Error, Hashable, Sendable, CustomStringConvertible {
    public var sequence: Int
    public var kind: String
    public var problem: String

    public var description: String { "event \(sequence) (\(kind)): \(problem)" }
}

extension MeshEvent {
    /// The words in the log.
    public enum Kind: String, Sendable, CaseIterable {
        case resourceApplied = "resource.applied"
        case resourceDeleted = "resource.deleted"
        case namespaceApplied = "namespace.applied"
        case namespaceDeleted = "namespace.deleted"
        case commandNote = "command.note"
        case nodeRegistered = "node.registered"
        case nodeReady = "node.ready"
        case nodeDraining = "node.draining"
        case nodeLeft = "node.left"
        case snapshotWanted = "snapshot.wanted"
        case snapshotAcknowledged = "snapshot.acknowledged"
        case snapshotRefused = "snapshot.refused"
        case snapshotApplied = "snapshot.applied"
        case rolloutStarted = "rollout.started"
        case rolloutStageStarted = "rollout.stage.started"
        case rolloutStageCompleted = "rollout.stage.completed"
        case rolloutCompleted = "rollout.completed"
        case rolloutCompensated = "rollout.compensated"
        case rolloutStopped = "rollout.stopped"
        case tokenCreated = "token.created"
        case tokenUsed = "token.used"
        case tokenRevoked = "token.revoked"
        case certificateIssued = "certificate.issued"
        case authorityCreated = "authority.created"
        case authorityRotated = "authority.rotated"
        case breakerForced = "breaker.forced"
        case breakerReleased = "breaker.released"

        /// Of the payload. A version that adds a field without which the event would be misread counts one up.
        var version: Int { 1 }
    }

    public var kind: Kind { parts.kind }

    /// What to append.
    public var draft: EventDraft {
        let (kind, payload) = parts
        let encoder = JSONEncoder()
        // One event has one text, whoever writes it.
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Strings and numbers alone: nothing that JSON cannot hold.
        let content = try! encoder.encode(Versioned(version: kind.version, payload: payload))
        return EventDraft(kind: kind.rawValue, payload: content)
    }

    public init(_ stored: StoredEvent) throws(EventError) {
        guard let kind = Kind(rawValue: stored.kind) else {
            throw EventError(
                sequence: stored.sequence, kind: stored.kind,
                problem: "this version does not know the kind: a newer outriggerd wrote it; start that one")
        }
        do {
            let decoder = JSONDecoder()
            func payload<Payload: Decodable>(_: Payload.Type = Payload.self) throws -> Payload {
                let read = try decoder.decode(Read<Payload>.self, from: stored.payload)
                if let payload = read.payload { return payload }
                throw EventError(
                    sequence: stored.sequence, kind: stored.kind,
                    problem:
                        "version \(read.version), this program knows up to \(kind.version): a newer outriggerd wrote it; start that one")
            }
            decoder.userInfo[.highestVersion] = kind.version
            self =
                switch kind {
                case .resourceApplied: .resourceApplied(try payload())
                case .resourceDeleted: .resourceDeleted(try payload())
                case .namespaceApplied: .namespaceApplied(try payload())
                case .namespaceDeleted: .namespaceDeleted(try payload())
                case .commandNote: .commandNote(try payload())
                case .nodeRegistered: .nodeRegistered(try payload())
                case .nodeReady: .nodeReady(try payload())
                case .nodeDraining: .nodeDraining(try payload())
                case .nodeLeft: .nodeLeft(try payload())
                case .snapshotWanted: .snapshotWanted(try payload())
                case .snapshotAcknowledged: .snapshotAcknowledged(try payload())
                case .snapshotRefused: .snapshotRefused(try payload())
                case .snapshotApplied: .snapshotApplied(try payload())
                case .rolloutStarted: .rolloutStarted(try payload())
                case .rolloutStageStarted: .rolloutStageStarted(try payload())
                case .rolloutStageCompleted: .rolloutStageCompleted(try payload())
                case .rolloutCompleted: .rolloutCompleted(try payload())
                case .rolloutCompensated: .rolloutCompensated(try payload())
                case .rolloutStopped: .rolloutStopped(try payload())
                case .tokenCreated: .tokenCreated(try payload())
                case .tokenUsed: .tokenUsed(try payload())
                case .tokenRevoked: .tokenRevoked(try payload())
                case .certificateIssued: .certificateIssued(try payload())
                case .authorityCreated: .authorityCreated(try payload())
                case .authorityRotated: .authorityRotated(try payload())
                case .breakerForced: .breakerForced(try payload())
                case .breakerReleased: .breakerReleased(try payload())
                }
        } catch let error as EventError {
            throw error
        } catch {
            throw EventError(sequence: stored.sequence, kind: stored.kind, problem: "its payload cannot be read: \(error)")
        }
    }

    private var parts: (kind: Kind, payload: any Encodable) {
        switch self {
        case .resourceApplied(let payload): (.resourceApplied, payload)
        case .resourceDeleted(let payload): (.resourceDeleted, payload)
        case .namespaceApplied(let payload): (.namespaceApplied, payload)
        case .namespaceDeleted(let payload): (.namespaceDeleted, payload)
        case .commandNote(let payload): (.commandNote, payload)
        case .nodeRegistered(let payload): (.nodeRegistered, payload)
        case .nodeReady(let payload): (.nodeReady, payload)
        case .nodeDraining(let payload): (.nodeDraining, payload)
        case .nodeLeft(let payload): (.nodeLeft, payload)
        case .snapshotWanted(let payload): (.snapshotWanted, payload)
        case .snapshotAcknowledged(let payload): (.snapshotAcknowledged, payload)
        case .snapshotRefused(let payload): (.snapshotRefused, payload)
        case .snapshotApplied(let payload): (.snapshotApplied, payload)
        case .rolloutStarted(let payload): (.rolloutStarted, payload)
        case .rolloutStageStarted(let payload): (.rolloutStageStarted, payload)
        case .rolloutStageCompleted(let payload): (.rolloutStageCompleted, payload)
        case .rolloutCompleted(let payload): (.rolloutCompleted, payload)
        case .rolloutCompensated(let payload): (.rolloutCompensated, payload)
        case .rolloutStopped(let payload): (.rolloutStopped, payload)
        case .tokenCreated(let payload): (.tokenCreated, payload)
        case .tokenUsed(let payload): (.tokenUsed, payload)
        case .tokenRevoked(let payload): (.tokenRevoked, payload)
        case .certificateIssued(let payload): (.certificateIssued, payload)
        case .authorityCreated(let payload): (.authorityCreated, payload)
        case .authorityRotated(let payload): (.authorityRotated, payload)
        case .breakerForced(let payload): (.breakerForced, payload)
        case .breakerReleased(let payload): (.breakerReleased, payload)
        }
    }

    /// A payload in one pass; nil if its version is too high for it to be looked at.
    private struct Read<Payload: Decodable>: Decodable {
        var version: Int
        var payload: Payload?

        private enum Key: String, CodingKey {
            case v
        }

        init(from decoder: any Decoder) throws {
            version = try decoder.container(keyedBy: Key.self).decode(Int.self, forKey: .v)
            if version <= decoder.userInfo[.highestVersion] as? Int ?? 0 { payload = try Payload(from: decoder) }
        }
    }

    /// The payload's own fields, and `v` beside them.
    private struct Versioned: Encodable {
        var version: Int
        var payload: any Encodable

        private enum Key: String, CodingKey {
            case v
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            try container.encode(version, forKey: .v)
            try payload.encode(to: encoder)
        }
    }
}

extension CodingUserInfoKey {
    fileprivate static let highestVersion = CodingUserInfoKey(rawValue: "highestVersion")!
}

/// What happens to a mesh, as events, and the read models that are folded from them.
public import EventStore

/// Something that happened. The words of `Kind` and the fields are the format of the log: they never change their meaning, only new ones
/// are added.
public enum MeshEvent: Hashable, Sendable {
    case resourceApplied(AppliedObject)
    case resourceDeleted(ObjectKey)
    case namespaceApplied(AppliedObject)
    case namespaceDeleted(ObjectKey)
    case commandNote(CommandNote)

    case nodeRegistered(NodeRegistration)
    case nodeReady(InstanceChange)
    case nodeDraining(InstanceChange)
    case nodeLeft(InstanceChange)

    case snapshotWanted(SnapshotChange)
    case snapshotAcknowledged(SnapshotChange)
    case snapshotRefused(SnapshotChange)
    case snapshotApplied(SnapshotChange)

    case rolloutStarted(RolloutStart)
    case rolloutStageStarted(RolloutStage)
    case rolloutStageCompleted(RolloutStage)
    case rolloutCompleted(RolloutEnd)
    case rolloutCompensated(RolloutEnd)
    case rolloutStopped(RolloutEnd)

    case tokenCreated(TokenCreation)
    case tokenUsed(TokenChange)
    case tokenRevoked(TokenChange)

    case certificateIssued(IssuedCertificate)
    case authorityCreated(AuthorityChange)
    case authorityRotated(AuthorityChange)

    case breakerForced(BreakerForce)
    case breakerReleased(BreakerRelease)
}

/// An object as its author wrote it.
public struct AppliedObject: Hashable, Sendable, Codable {
    public var key: ObjectKey
    /// YAML of this object alone.
    public var document: String
    /// Where it came from, as the author named it, and the line at which the text started, from 1.
    public var file: String
    public var line: Int

    public init(key: ObjectKey, document: String, file: String, line: Int) {
        self.key = key
        self.document = document
        self.file = file
        self.line = line
    }
}

/// What a command was, where its events alone do not say it.
public struct CommandNote: Hashable, Sendable, Codable {
    /// `rollback`.
    public var command: String
    /// The revision that a rollback went back to.
    public var revision: Int?
    public var text: String

    public init(command: String, revision: Int? = nil, text: String = "") {
        self.command = command
        self.revision = revision
        self.text = text
    }
}

/// A proxy has come: a VirtualNode or VirtualGateway may have several, each an instance.
public struct NodeRegistration: Hashable, Sendable, Codable {
    public var instance: String
    public var node: ObjectKey
    /// An IP at which other proxies reach it.
    public var address: String
    /// The ports of its inbound listeners.
    public var ports: [Int]
    public var zone: String?
    /// Its listeners take TLS with its own certificate of the mesh. Absent in logs of before there was such: they do not.
    public var takesTLS: Bool?

    public init(
        instance: String, node: ObjectKey, address: String, ports: [Int], zone: String? = nil, takesTLS: Bool = false
    ) {
        self.instance = instance
        self.node = node
        self.address = address
        self.ports = ports
        self.zone = zone
        self.takesTLS = takesTLS ? true : nil
    }
}

/// Names a proxy: instances of different nodes may have one name.
public struct InstanceKey: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
    public var node: ObjectKey
    public var instance: String

    public init(node: ObjectKey, instance: String) {
        self.node = node
        self.instance = instance
    }

    public var description: String { "\(node) \(instance)" }

    public static func < (left: InstanceKey, right: InstanceKey) -> Bool {
        left.node == right.node ? left.instance < right.instance : left.node < right.node
    }
}

public struct InstanceChange: Hashable, Sendable, Codable {
    public var instance: InstanceKey
    /// Why, where that is not clear: `stream lost for 30s`.
    public var reason: String

    public init(instance: InstanceKey, reason: String = "") {
        self.instance = instance
        self.reason = reason
    }
}

/// A snapshot on its way to a proxy.
public struct SnapshotChange: Hashable, Sendable, Codable {
    public var instance: InstanceKey
    public var version: String
    /// Of a refusal: path, expected and found.
    public var reason: String

    public init(instance: InstanceKey, version: String, reason: String = "") {
        self.instance = instance
        self.version = version
        self.reason = reason
    }
}

public struct RolloutStart: Hashable, Sendable, Codable {
    /// The revision that is rolled out, which names the rollout too.
    public var revision: Int
    /// The one to go back to.
    public var previous: Int
    /// As asked for: `canary=1`, `25%`, `100%`.
    public var stages: [String]
    public var pauseMilliseconds: Int

    public init(revision: Int, previous: Int, stages: [String], pauseMilliseconds: Int) {
        self.revision = revision
        self.previous = previous
        self.stages = stages
        self.pauseMilliseconds = pauseMilliseconds
    }
}

public struct RolloutStage: Hashable, Sendable, Codable {
    public var revision: Int
    /// From 0.
    public var stage: Int
    /// Who gets it in this stage.
    public var instances: [InstanceKey]

    public init(revision: Int, stage: Int, instances: [InstanceKey] = []) {
        self.revision = revision
        self.stage = stage
        self.instances = instances
    }
}

public struct RolloutEnd: Hashable, Sendable, Codable {
    public var revision: Int
    public var reason: String

    public init(revision: Int, reason: String = "") {
        self.revision = revision
        self.reason = reason
    }
}

public struct TokenCreation: Hashable, Sendable, Codable {
    public var id: String
    /// SHA-256 in hexadecimal: the token itself is nowhere but with its owner.
    public var hash: String
    /// `join`, `read`, `write`, `admin`.
    public var role: String
    /// The node that may join with it; nil for a token of people.
    public var node: ObjectKey?
    public var expiry: UnixTime?

    public init(id: String, hash: String, role: String, node: ObjectKey? = nil, expiry: UnixTime? = nil) {
        self.id = id
        self.hash = hash
        self.role = role
        self.node = node
        self.expiry = expiry
    }
}

public struct TokenChange: Hashable, Sendable, Codable {
    public var id: String
    /// Which instance joined with it.
    public var instance: InstanceKey?

    public init(id: String, instance: InstanceKey? = nil) {
        self.id = id
        self.instance = instance
    }
}

public struct IssuedCertificate: Hashable, Sendable, Codable {
    /// In hexadecimal.
    public var serial: String
    public var instance: InstanceKey
    /// `spiffe://demo/ns/shop/vn/cart`.
    public var identity: String
    public var notBefore: UnixTime
    public var notAfter: UnixTime
    /// Of the authority that signed it.
    public var authority: String

    public init(serial: String, instance: InstanceKey, identity: String, notBefore: UnixTime, notAfter: UnixTime, authority: String) {
        self.serial = serial
        self.instance = instance
        self.identity = identity
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.authority = authority
    }
}

public struct AuthorityChange: Hashable, Sendable, Codable {
    /// SHA-256 of the root certificate in hexadecimal.
    public var authority: String
    /// The root certificate; its key is in a file and nowhere else.
    public var certificatePEM: String
    public var notAfter: UnixTime

    public init(authority: String, certificatePEM: String, notAfter: UnixTime) {
        self.authority = authority
        self.certificatePEM = certificatePEM
        self.notAfter = notAfter
    }
}

/// An operator has taken a breaker of a node's proxies in hand.
public struct BreakerForce: Hashable, Sendable, Codable {
    public var target: OverrideTable.Key
    /// `open`, `disable` or `observe`.
    public var action: String
    public var until: UnixTime

    public init(target: OverrideTable.Key, action: String, until: UnixTime) {
        self.target = target
        self.action = action
        self.until = until
    }
}

/// It decides for itself again, before the time was over.
public struct BreakerRelease: Hashable, Sendable, Codable {
    public var target: OverrideTable.Key

    public init(target: OverrideTable.Key) {
        self.target = target
    }
}

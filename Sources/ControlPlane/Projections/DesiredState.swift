public import EventStore
import Foundation
public import MeshModel
import MeshYAML

/// One object that users want to be there.
public struct DesiredObject: Hashable, Sendable, Codable {
    /// As its author wrote it.
    public var document: String
    /// Where it came from, and the line at which the document started there, from 1.
    public var file: String
    public var line: Int
    /// 1 when it was created, and one more with each change of its meaning.
    public var generation: Int
    /// The revision that changed it last.
    public var revision: Int
    public var created: UnixTime
    public var changed: UnixTime
}

/// What users want: the objects they applied, as texts and as the mesh that these make up.
public struct DesiredState: Projection {
    public static let name = "desired-state"
    public static let version = 1

    public var sequence = 0
    /// How many accepted commands have changed something; 0 before the first.
    public private(set) var revision = 0
    public private(set) var objects: [ObjectKey: DesiredObject] = [:]
    /// The batch that made the revision: all changes of a command are one.
    private var batch = 0

    /// Parsed from the documents, and never stored: a document that is not touched is not parsed again.
    private var parsed = ParsedObjects()
    /// What changed since it was parsed.
    private var unparsed: Set<ObjectKey> = []

    public init() {}

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .resourceApplied(let object), .namespaceApplied(let object):
            beginRevision(record)
            let before = objects[object.key]
            objects[object.key] = DesiredObject(
                document: object.document, file: object.file, line: object.line, generation: (before?.generation ?? 0) + 1,
                revision: revision, created: before?.created ?? record.time, changed: record.time)
            unparsed.insert(object.key)
        case .resourceDeleted(let key), .namespaceDeleted(let key):
            beginRevision(record)
            objects[key] = nil
            unparsed.insert(key)
        default: break
        }
    }

    /// An object as it is, beside all events: to try what a state would be.
    mutating func set(_ key: ObjectKey, to object: DesiredObject) {
        objects[key] = object
        unparsed.insert(key)
    }

    private mutating func beginRevision(_ record: StoredEvent) {
        guard batch != record.batch else { return }
        batch = record.batch
        revision += 1
    }

    /// Parses what changed since the last call. Folding leaves that to the end, so that only the last text of each object is parsed.
    public mutating func settle() {
        for key in unparsed {
            if let object = objects[key] { parsed.set(key, to: object) } else { parsed.remove(key) }
        }
        unparsed = []
    }

    /// The mesh. Costs nothing once the state is settled.
    public var mesh: MeshResources {
        if unparsed.isEmpty { return parsed.resources }
        var settled = self
        settled.settle()
        return settled.parsed.resources
    }

    /// Objects whose documents this program cannot read, with the reasons: they are not in the mesh. Empty unless its rules are
    /// stricter than those of the version that took them.
    public var unreadable: [ObjectKey: [Diagnostic]] {
        var settled = self
        settled.settle()
        return settled.parsed.unreadable
    }

    /// How many documents were parsed to make this value, for tests and figures.
    var documentsParsed: Int { parsed.count }
}

extension DesiredState: Codable {
    private enum Key: String, CodingKey {
        case sequence, revision, batch, objects
    }

    private struct Entry: Codable {
        var key: ObjectKey
        var object: DesiredObject
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        sequence = try values.decode(Int.self, forKey: .sequence)
        revision = try values.decode(Int.self, forKey: .revision)
        batch = try values.decode(Int.self, forKey: .batch)
        for entry in try values.decode([Entry].self, forKey: .objects) { objects[entry.key] = entry.object }
        unparsed = Set(objects.keys)
    }

    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: Key.self)
        try values.encode(sequence, forKey: .sequence)
        try values.encode(revision, forKey: .revision)
        try values.encode(batch, forKey: .batch)
        // In order, so that equal states have equal snapshots.
        let entries = objects.sorted { $0.key < $1.key }.map { Entry(key: $0.key, object: $0.value) }
        try values.encode(entries, forKey: .objects)
    }
}

extension DesiredState: Equatable {
    /// By what is stored; what is parsed follows from it.
    public static func == (left: DesiredState, right: DesiredState) -> Bool {
        left.sequence == right.sequence && left.revision == right.revision && left.batch == right.batch && left.objects == right.objects
    }
}

/// The objects as values.
private struct ParsedObjects: Sendable {
    private(set) var resources = MeshResources()
    private(set) var unreadable: [ObjectKey: [Diagnostic]] = [:]
    private(set) var count = 0

    mutating func set(_ key: ObjectKey, to object: DesiredObject) {
        count += 1
        let (manifest, diagnostics) = MeshLoader.manifest(
            object.document, file: object.file, line: object.line, namespace: key.namespace, name: key.name)
        remove(key)
        switch manifest?.content {
        case .resource(let resource) where ObjectKey(resource.key) == key:
            resources.insert(resource)
            resources.places.set(manifest!.places, for: resource.key)
        case .namespace(let namespace) where ObjectKey(namespace: namespace.name) == key: resources.namespaces[namespace.name] = namespace
        default: unreadable[key] = diagnostics
        }
    }

    mutating func remove(_ key: ObjectKey) {
        unreadable[key] = nil
        if key.isNamespace { resources.namespaces[key.name] = nil }
        if let key = key.resource { resources.remove(key) }
    }
}

/// What `outrigger` and `outriggerd` say to each other: the REST API's messages, as JSON (docs/control-api.md).
///
/// Times are RFC 3339 texts in UTC with milliseconds; an absent value is left out.

/// A text that holds YAML documents, as a user has it in a file.
public struct SourceText: Hashable, Sendable, Codable {
    /// As the user named it: errors begin with it.
    public var name: String
    public var text: String

    public init(name: String, text: String) {
        self.name = name
        self.text = text
    }
}

/// `POST /v1/apply`: makes the mesh hold these resources. Saying it twice is saying it once.
public struct ApplyRequest: Hashable, Sendable, Codable {
    public var files: [SourceText]
    /// Of resources that name none.
    public var namespace: String?
    /// Unknown fields are errors, not warnings.
    public var strict: Bool?
    /// Checks and tells what would change, and changes nothing.
    public var dryRun: Bool?
    /// Why, for the history.
    public var reason: String?
    /// Nil: to all proxies at once.
    public var rollout: RolloutPlan?

    public init(
        files: [SourceText], namespace: String? = nil, strict: Bool? = nil, dryRun: Bool? = nil, reason: String? = nil,
        rollout: RolloutPlan? = nil
    ) {
        self.files = files
        self.namespace = namespace
        self.strict = strict
        self.dryRun = dryRun
        self.reason = reason
        self.rollout = rollout
    }
}

/// `POST /v1/delete`: takes resources out of the mesh, those in the files and those named. What is not there is no error.
public struct DeleteRequest: Hashable, Sendable, Codable {
    public var files: [SourceText]?
    public var resources: [ResourceName]?
    public var namespace: String?
    public var dryRun: Bool?
    public var reason: String?
    public var rollout: RolloutPlan?

    public init(
        files: [SourceText]? = nil, resources: [ResourceName]? = nil, namespace: String? = nil, dryRun: Bool? = nil, reason: String? = nil,
        rollout: RolloutPlan? = nil
    ) {
        self.rollout = rollout
        self.files = files
        self.resources = resources
        self.namespace = namespace
        self.dryRun = dryRun
        self.reason = reason
    }
}

/// `POST /v1/rollback`: makes the mesh what it was at a revision, by a new revision.
public struct RollbackRequest: Hashable, Sendable, Codable {
    public var revision: Int
    public var dryRun: Bool?
    public var reason: String?
    public var rollout: RolloutPlan?

    public init(revision: Int, dryRun: Bool? = nil, reason: String? = nil, rollout: RolloutPlan? = nil) {
        self.revision = revision
        self.dryRun = dryRun
        self.reason = reason
        self.rollout = rollout
    }
}

/// The answer to a change.
public struct ChangeResult: Hashable, Sendable, Codable {
    /// The mesh's revision from now on; with `dryRun`, or where nothing changed, the one that it has.
    public var revision: Int
    public var isDryRun: Bool
    public var changes: [ResourceChange]
    public var warnings: [DiagnosticMessage]
    /// Of a staged rollout that has begun.
    public var rollout: String?

    public init(
        revision: Int, isDryRun: Bool = false, changes: [ResourceChange], warnings: [DiagnosticMessage] = [], rollout: String? = nil
    ) {
        self.revision = revision
        self.isDryRun = isDryRun
        self.changes = changes
        self.warnings = warnings
        self.rollout = rollout
    }
}

public struct ResourceName: Hashable, Sendable, Codable {
    /// `VirtualNode`.
    public var kind: String
    /// Nil for a Mesh.
    public var namespace: String?
    public var name: String

    public init(kind: String, namespace: String?, name: String) {
        self.kind = kind
        self.namespace = namespace
        self.name = name
    }
}

public struct ResourceChange: Hashable, Sendable, Codable {
    public enum Action: String, Hashable, Sendable, Codable {
        case created
        case configured
        case unchanged
        case deleted
    }

    public var resource: ResourceName
    public var action: Action

    public init(resource: ResourceName, action: Action) {
        self.resource = resource
        self.action = action
    }
}

/// Something about a place in a file: an error or a warning.
public struct DiagnosticMessage: Hashable, Sendable, Codable {
    /// `error` or `warning`.
    public var severity: String
    public var file: String?
    public var line: Int?
    public var column: Int?
    /// `VirtualNode/cart`.
    public var resource: String?
    /// `spec.listeners[0].portMapping.port`.
    public var path: String?
    public var expected: String?
    public var found: String?
    /// The whole as one line for people, its place included.
    public var message: String

    public init(
        severity: String, file: String? = nil, line: Int? = nil, column: Int? = nil, resource: String? = nil, path: String? = nil,
        expected: String? = nil, found: String? = nil, message: String
    ) {
        self.severity = severity
        self.file = file
        self.line = line
        self.column = column
        self.resource = resource
        self.path = path
        self.expected = expected
        self.found = found
        self.message = message
    }
}

/// How a change reaches the proxies.
public struct RolloutPlan: Hashable, Sendable, Codable {
    /// The share of proxies that have the change after each stage: `1`, `25%`, `100%`, ascending; the last is all.
    public var stages: [String]
    /// How long each stage is watched before the next.
    public var pauseSeconds: Double
    /// Compensated if 5xx of all requests of the stage's proxies pass this share, and twice the share of before; percent.
    public var maxErrorPercent: Double?

    public init(stages: [String], pauseSeconds: Double, maxErrorPercent: Double? = nil) {
        self.stages = stages
        self.pauseSeconds = pauseSeconds
        self.maxErrorPercent = maxErrorPercent
    }
}

/// What went wrong (RFC 9457, `application/problem+json`).
public struct Problem: Error, Hashable, Sendable, Codable {
    /// A stable name: `about:blank` or `urn:outrigger:problem:invalid-resources`.
    public var type: String
    public var title: String
    public var status: Int
    public var detail: String?
    public var diagnostics: [DiagnosticMessage]?

    public init(_ name: String? = nil, status: Int, title: String, detail: String? = nil, diagnostics: [DiagnosticMessage]? = nil) {
        type = name.map { "urn:outrigger:problem:\($0)" } ?? "about:blank"
        self.title = title
        self.status = status
        self.detail = detail
        self.diagnostics = diagnostics
    }
}

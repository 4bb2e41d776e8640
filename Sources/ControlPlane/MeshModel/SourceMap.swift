public import Base

/// Where each field of each resource stands, so that a later pass can name the line. Kept beside the resources: two resources
/// that say the same are equal wherever they were written.
public struct SourceMap: Sendable {
    private var fields: [ResourceKey: [FieldPath: SourceLocation]] = [:]

    public init() {}

    /// The place of the field, or of the nearest field around it that the file has (a missing field is missed in its parent).
    public func location(of path: FieldPath = FieldPath(), in key: ResourceKey) -> SourceLocation? {
        guard let places = fields[key] else { return nil }
        var path = path
        while true {
            if let place = places[path] { return place }
            if path.steps.isEmpty { return nil }
            path.steps.removeLast()
        }
    }

    /// Of all fields of a resource; nil where none are known.
    public func places(in key: ResourceKey) -> [FieldPath: SourceLocation]? { fields[key] }

    public mutating func set(_ places: [FieldPath: SourceLocation], for key: ResourceKey) {
        fields[key] = places
    }

    public mutating func remove(_ key: ResourceKey) {
        fields[key] = nil
    }
}

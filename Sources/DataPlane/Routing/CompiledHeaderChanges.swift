public import HTTP
public import ProxyConfig

/// `HeaderChanges` with its names and values as bytes.
public struct CompiledHeaderChanges: Sendable {
    private struct Field: Sendable {
        var bytes: [UInt8]
        var nameCount: Int
        var known: KnownField

        init(_ field: HeaderChanges.Field) {
            let name = Array(field.name.lowercased().utf8)
            bytes = name + Array(field.value.utf8)
            nameCount = name.count
            known = KnownField(name.span)
        }
    }

    private let removed: [[UInt8]]
    private let set: [Field]
    private let added: [Field]
    public let isEmpty: Bool

    public init(_ changes: HeaderChanges) {
        set = changes.set.map(Field.init)
        added = changes.add.map(Field.init)
        removed = changes.remove.map { Array($0.lowercased().utf8) } + changes.set.map { Array($0.name.lowercased().utf8) }
        isEmpty = changes.isEmpty
    }

    public func apply(to head: Head) {
        if !removed.isEmpty {
            head.fields.removeAll { field in removed.contains { head.isNamed(field, $0) } }
        }
        for field in set { Self.append(field, to: head) }
        for field in added { Self.append(field, to: head) }
    }

    private static func append(_ field: Field, to head: Head) {
        let start = head.bytes.count
        head.bytes.append(contentsOf: field.bytes)
        head.fields.append(
            Head.Field(name: start..<start + field.nameCount, value: start + field.nameCount..<head.bytes.count, known: field.known))
    }
}

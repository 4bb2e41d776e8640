import ProxyConfig

/// All metrics at one moment, added up over the workers.
public struct Scrape: Sendable {
    var tables: [StatTable]
    var samples: ScrapeSamples
    var node: Node?
    var protocolErrorReasons: [String]

    /// The name of a codec's reason.
    func reason(_ index: Int) -> String {
        index < protocolErrorReasons.count ? protocolErrorReasons[index] : "reason_\(index)"
    }

    func table(_ kind: BlockKind) -> StatTable {
        guard let table = tables.first(where: { $0.kind == kind }) else { preconditionFailure("a scrape has a table of every kind") }
        return table
    }
}

/// All things of one kind: a row each, in the order of their labels.
struct StatTable: Sendable {
    struct Row: Sendable {
        var labels: [String]
        var reading: StatReader.Reading
    }

    var kind: BlockKind
    /// Empty where there is no row.
    var descriptors: [StatDescriptor]
    var rows: [Row]

    init<Block>(_ group: BlockGroup<Block>) {
        var reader = StatReader()
        kind = group.kind
        rows = group.entries.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map {
            Row(labels: $0.key, reading: reader.read($0.value.blocks))
        }
        descriptors = reader.descriptors
    }

    /// A counter or gauge by its name.
    func value(_ name: StaticString, _ row: Row) -> UInt64 {
        guard let found = descriptors.first(where: { "\($0.name)" == "\(name)" }) else { preconditionFailure("no metric \(name)") }
        return row.reading.values[found.slot]
    }

    func sum(_ names: StaticString...) -> UInt64 {
        rows.reduce(0) { total, row in names.reduce(total) { $0 &+ value($1, row) } }
    }
}

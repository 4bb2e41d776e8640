public import Base

/// Writes a scrape as Envoy's `/stats` does: `cluster.cart.upstream_rq_total: 5`, sorted by name, or as JSON.
public struct StatsText {
    public enum Format: Sendable {
        case text
        case json
    }

    fileprivate enum Value {
        case number(Double)
        case histogram(HistogramSummary)
    }

    private var stats: [(name: String, value: Value)] = []

    /// - Parameters:
    ///   - isUsedOnly: leave out what is zero.
    ///   - matches: which names are shown (`?filter=`); nil = all.
    public static func encode(
        _ scrape: borrowing Scrape, format: Format = .text, isUsedOnly: Bool = false, matches: ((String) -> Bool)? = nil,
        into buffer: inout ByteBuffer
    ) {
        var text = StatsText()
        for table in scrape.tables { text.add(table, scrape) }
        for metric in ScrapeMetric.allCases { text.add(metric, scrape.samples[metric]) }
        if let matches { text.stats.removeAll { !matches($0.name) } }
        if isUsedOnly { text.stats.removeAll { !$0.value.isUsed } }
        text.stats.sort { $0.name < $1.name }
        switch format {
        case .text: text.appendText(to: &buffer)
        case .json: text.appendJSON(to: &buffer)
        }
    }

    // MARK: Gathering

    private mutating func add(_ table: StatTable, _ scrape: borrowing Scrape) {
        for row in table.rows {
            let scope = table.kind.scope(row.labels)
            for descriptor in table.descriptors {
                let name = scope + "\(descriptor.name)"
                let slot = descriptor.slot
                switch descriptor.kind {
                case .counter: add(name, Double(row.reading.values[slot]))
                case .gauge: add(name, Double(Int64(bitPattern: row.reading.values[slot])))
                case .histogram, .quantiles: stats.append((name, .histogram(row.reading.histograms[slot])))
                case .statuses:
                    add(name + "_completed", Double(row.reading.tables[slot][-1] ?? 0))
                    for (key, count) in row.reading.tables[slot] where key > 0 {
                        add(key < 100 ? "\(name)_\(key)xx" : "\(name)_\(key)", Double(count))
                    }
                case .reasons: for (key, count) in row.reading.tables[slot] { add("\(name).\(scrape.reason(key))", Double(count)) }
                case .outcomes:
                    for (key, count) in row.reading.tables[slot] {
                        let (outcome, flag) = RouteStats.outcome(key)
                        add("\(name).\(outcome).\(flag)", Double(count))
                    }
                case .durations: break  // The same as the quantiles of all classes together.
                }
            }
        }
    }

    private mutating func add(_ metric: ScrapeMetric, _ samples: [[String]: Double]) {
        let pattern = metric.description.stat.split(separator: "{}", omittingEmptySubsequences: false)
        for (labels, value) in samples {
            var name = String(pattern[0])
            for (label, rest) in zip(labels, pattern.dropFirst()) { name += label + rest }
            add(name, value)
        }
    }

    private mutating func add(_ name: String, _ value: Double) {
        stats.append((name, .number(value)))
    }

    // MARK: Writing

    private func appendText(to buffer: inout ByteBuffer) {
        for (name, value) in stats {
            buffer.append(Array(name.utf8).span, as: .text)
            buffer.append(": ")
            switch value {
            case .number(let number): buffer.append(number: number)
            case .histogram(let summary) where summary.count == 0: buffer.append("No recorded values")
            case .histogram(let summary):
                for (index, (label, number)) in summary.quantiles.enumerated() {
                    if index > 0 { buffer.append(UInt8(ascii: " ")) }
                    buffer.append(label)
                    buffer.append(UInt8(ascii: "="))
                    buffer.append(number: number)
                }
            }
            buffer.append(UInt8(ascii: "\n"))
        }
    }

    private func appendJSON(to buffer: inout ByteBuffer) {
        buffer.append("{\"stats\":[")
        for (index, (name, value)) in stats.enumerated() {
            if index > 0 { buffer.append(UInt8(ascii: ",")) }
            buffer.append("{\"name\":\"")
            buffer.append(Array(name.utf8).span, as: .json)
            switch value {
            case .number(let number):
                buffer.append("\",\"value\":")
                if number.isFinite { buffer.append(number: number) } else { buffer.append("null") }
            case .histogram(let summary):
                buffer.append("\",\"count\":")
                buffer.append(count: summary.count)
                for (label, number) in summary.quantiles {
                    buffer.append(",\"")
                    buffer.append(label)
                    buffer.append("\":")
                    buffer.append(number: number)
                }
            }
            buffer.append(UInt8(ascii: "}"))
        }
        buffer.append("]}\n")
    }
}

extension StatsText.Value {
    fileprivate var isUsed: Bool {
        switch self {
        case .number(let number): number != 0
        case .histogram(let summary): summary.count > 0
        }
    }
}

extension HistogramSummary {
    /// To the microsecond: more digits than the buckets are worth.
    fileprivate var quantiles: [(StaticString, Double)] {
        [("p50", p50), ("p90", p90), ("p99", p99), ("max", max)].map { ($0.0, ($0.1 * 1000).rounded() / 1000) }
    }
}

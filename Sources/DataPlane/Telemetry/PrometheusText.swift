public import Base

/// Which families a scrape shows.
public struct MetricProfile: OptionSet, Hashable, Sendable {
    public var rawValue: UInt8

    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// `outrigger_*`.
    public static let native = MetricProfile(rawValue: 1)
    /// `envoy_*`, with Envoy's labels.
    public static let envoy = MetricProfile(rawValue: 2)
    /// `envoy_appmesh_*`: the nine of App Mesh's metrics extension.
    public static let appMesh = MetricProfile(rawValue: 4)

    public static let all: MetricProfile = [.native, .envoy, .appMesh]
}

/// Writes a scrape in Prometheus's text format, version 0.0.4: every family once, with HELP and TYPE, its samples together.
public struct PrometheusText: ~Copyable {
    /// Of the answer.
    public static let contentType: StaticString = "text/plain; version=0.0.4; charset=utf-8"

    private var buffer = ByteBuffer()

    public static func encode(_ scrape: borrowing Scrape, profile: MetricProfile = .all, into buffer: inout ByteBuffer) {
        var text = PrometheusText()
        swap(&text.buffer, &buffer)
        for table in scrape.tables {
            let isNative = "\(table.kind.family)".hasPrefix("outrigger_")
            if profile.contains(isNative ? .native : .envoy) { text.append(table, scrape) }
        }
        for metric in ScrapeMetric.allCases { text.append(metric, scrape.samples[metric], profile) }
        if profile.contains(.appMesh) { text.append(AppMeshMetrics(scrape)) }
        swap(&text.buffer, &buffer)
    }

    // MARK: Blocks

    private mutating func append(_ table: StatTable, _ scrape: borrowing Scrape) {
        guard !table.rows.isEmpty else { return }
        let labels = table.rows.map { Self.labels(table.kind.labels, $0.labels) }
        for descriptor in table.descriptors {
            // Names in groups, such as `ssl.handshake`, keep their dot in /stats only.
            let name = "\(table.kind.family)\(descriptor.name)".utf8.map { $0 == UInt8(ascii: ".") ? UInt8(ascii: "_") : $0 }
            let help = "\(descriptor.help)"
            switch descriptor.kind {
            case .counter:
                header(name, "counter", help)
                for (row, labels) in zip(table.rows, labels) { sample(name, labels, row.reading.values[descriptor.slot]) }
            case .gauge:
                header(name, "gauge", help)
                for (row, labels) in zip(table.rows, labels) {
                    sample(name, labels, Double(Int64(bitPattern: row.reading.values[descriptor.slot])))
                }
            case .histogram:
                header(name, "histogram", help)
                for (row, labels) in zip(table.rows, labels) { histogram(name, labels, row.reading.histograms[descriptor.slot]) }
            case .quantiles: break
            case .statuses: statuses(name, help, table, labels, descriptor.slot)
            case .reasons:
                header(name, "counter", help)
                for (row, labels) in zip(table.rows, labels) {
                    for (index, count) in row.reading.tables[descriptor.slot].sorted(by: { $0.key < $1.key }) {
                        sample(name, labels + Self.labels(["reason"], [scrape.reason(index)], isFirst: labels.isEmpty), count)
                    }
                }
            case .outcomes:
                header(name, "counter", help)
                for (row, labels) in zip(table.rows, labels) {
                    for (slot, count) in row.reading.tables[descriptor.slot].sorted(by: { $0.key < $1.key }) {
                        let (outcome, flag) = RouteStats.outcome(slot)
                        sample(name, labels + Self.labels(["class", "flag"], [outcome, flag], isFirst: labels.isEmpty), count)
                    }
                }
            case .durations:
                header(name, "histogram", help)
                for (row, labels) in zip(table.rows, labels) {
                    for (outcome, summary) in zip(ResponseClass.allCases, row.reading.durations[descriptor.slot]) where summary.count > 0 {
                        let all = labels + Self.labels(["class"], ["\(outcome.label)"], isFirst: labels.isEmpty)
                        histogram(name, all, DurationSummary.bounds, summary.cumulative, summary.count, summary.sum)
                    }
                }
            }
        }
    }

    /// `_completed`, `_xx` by class, and by code.
    private mutating func statuses(_ name: [UInt8], _ help: String, _ table: StatTable, _ labels: [[UInt8]], _ slot: Int) {
        let completed = name + Array("_completed".utf8)
        header(completed, "counter", help + ", of any code.")
        for (row, labels) in zip(table.rows, labels) { sample(completed, labels, row.reading.tables[slot][-1] ?? 0) }
        let byClass = name + Array("_xx".utf8)
        header(byClass, "counter", help + ", by class.")
        for (row, labels) in zip(table.rows, labels) {
            for digit in 1...5 {
                let all = labels + Self.labels(["envoy_response_code_class"], ["\(digit)"], isFirst: labels.isEmpty)
                sample(byClass, all, row.reading.tables[slot][digit] ?? 0)
            }
        }
        header(name, "counter", help + ", by code.")
        for (row, labels) in zip(table.rows, labels) {
            for (code, count) in row.reading.tables[slot].sorted(by: { $0.key < $1.key }) where code >= 100 {
                sample(name, labels + Self.labels(["envoy_response_code"], ["\(code)"], isFirst: labels.isEmpty), count)
            }
        }
    }

    // MARK: What providers say

    private mutating func append(_ metric: ScrapeMetric, _ samples: [[String]: Double], _ profile: MetricProfile) {
        guard !samples.isEmpty else { return }
        let description = metric.description
        guard profile.contains(description.family.hasPrefix("envoy_") ? .envoy : .native) else { return }
        let name = Array(description.family.utf8)
        header(name, description.kind == .counter ? "counter" : "gauge", description.help)
        for (values, value) in samples.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            sample(name, Self.labels(description.labels, values), value)
        }
    }

    private mutating func append(_ metrics: AppMeshMetrics) {
        for family in metrics.families {
            let name = Array("envoy_appmesh_\(family.name)".utf8)
            header(name, family.kind, family.help)
            for row in family.rows {
                let labels = Self.labels(row.labels.map(\.0), row.labels.map(\.1))
                switch row.value {
                case .number(let value): sample(name, labels, value)
                case .durations(let summary):
                    histogram(name, labels, HistogramSummary.requestBounds, summary.cumulative, summary.count, summary.sum * 1000)
                }
            }
        }
    }

    // MARK: Lines

    private mutating func header(_ name: [UInt8], _ type: StaticString, _ help: String) {
        buffer.append("# HELP ")
        buffer.append(name)
        buffer.append(UInt8(ascii: " "))
        buffer.append(help)
        buffer.append("\n# TYPE ")
        buffer.append(name)
        buffer.append(UInt8(ascii: " "))
        buffer.append(type)
        buffer.append(UInt8(ascii: "\n"))
    }

    /// `name="value",...`, escaped, with a comma in front unless it is the first.
    private static func labels(_ names: [String], _ values: [String], isFirst: Bool = true) -> [UInt8] {
        var bytes: [UInt8] = []
        for (name, value) in zip(names, values) {
            if !isFirst || !bytes.isEmpty { bytes.append(UInt8(ascii: ",")) }
            bytes += name.utf8
            bytes += "=\"".utf8
            for byte in value.utf8 {
                switch byte {
                case UInt8(ascii: "\\"): bytes += "\\\\".utf8
                case UInt8(ascii: "\""): bytes += "\\\"".utf8
                case UInt8(ascii: "\n"): bytes += "\\n".utf8
                default: bytes.append(byte)
                }
            }
            bytes.append(UInt8(ascii: "\""))
        }
        return bytes
    }

    private mutating func series(_ name: [UInt8], _ suffix: StaticString, _ labels: [UInt8], bound: Double? = nil) {
        buffer.append(name)
        buffer.append(suffix)
        if !labels.isEmpty || bound != nil {
            buffer.append(UInt8(ascii: "{"))
            buffer.append(labels)
            if let bound {
                if !labels.isEmpty { buffer.append(UInt8(ascii: ",")) }
                buffer.append("le=\"")
                buffer.append(number: bound)
                buffer.append(UInt8(ascii: "\""))
            }
            buffer.append(UInt8(ascii: "}"))
        }
        buffer.append(UInt8(ascii: " "))
    }

    private mutating func sample(_ name: [UInt8], _ labels: [UInt8], _ value: UInt64) {
        series(name, "", labels)
        buffer.append(count: value)
        buffer.append(UInt8(ascii: "\n"))
    }

    private mutating func sample(_ name: [UInt8], _ labels: [UInt8], _ value: Double) {
        series(name, "", labels)
        buffer.append(number: value)
        buffer.append(UInt8(ascii: "\n"))
    }

    private mutating func histogram(_ name: [UInt8], _ labels: [UInt8], _ summary: HistogramSummary) {
        histogram(name, labels, summary.bounds, summary.cumulative, summary.count, summary.sum)
    }

    private mutating func histogram(
        _ name: [UInt8], _ labels: [UInt8], _ bounds: [Double], _ cumulative: [UInt64], _ count: UInt64, _ sum: Double
    ) {
        for (bound, value) in zip(bounds + [.infinity], cumulative.prefix(bounds.count) + [count]) {
            series(name, "_bucket", labels, bound: bound)
            buffer.append(count: value)
            buffer.append(UInt8(ascii: "\n"))
        }
        series(name, "_sum", labels)
        buffer.append(number: sum)
        buffer.append(UInt8(ascii: "\n"))
        series(name, "_count", labels)
        buffer.append(count: count)
        buffer.append(UInt8(ascii: "\n"))
    }
}

extension DurationSummary {
    var count: UInt64 { counts.reduce(0, &+) }

    var cumulative: [UInt64] {
        var seen: UInt64 = 0
        return counts.map { count in
            seen &+= count
            return seen
        }
    }

    static func + (left: DurationSummary, right: DurationSummary) -> DurationSummary {
        DurationSummary(counts: zip(left.counts, right.counts).map { $0 &+ $1 }, sum: left.sum + right.sum)
    }
}

extension ByteBuffer {
    mutating func append(count: UInt64) {
        append(decimal: Int(clamping: count))
    }

    /// Whole numbers without a point; `+Inf`, `-Inf` and `NaN` as Prometheus writes them.
    mutating func append(number: Double) {
        if number.isNaN {
            append("NaN")
        } else if number.isInfinite {
            append(number > 0 ? "+Inf" : "-Inf")
        } else if number == number.rounded(), abs(number) < 1e15 {
            append(decimal: Int(number))
        } else {
            append("\(number)")
        }
    }
}

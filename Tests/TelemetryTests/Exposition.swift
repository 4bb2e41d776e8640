/// A strict reader of Prometheus's text format 0.0.4: what breaks a rule throws.
struct Exposition {
    struct Sample: Equatable {
        var name: String
        var labels: [String: String]
        var value: Double
    }

    struct Family {
        var type: String
        var help: String
        var samples: [Sample] = []
    }

    struct Violation: Error, CustomStringConvertible {
        var line: Int
        var rule: String
        var description: String { "line \(line): \(rule)" }
    }

    private(set) var families: [String: Family] = [:]
    private(set) var order: [String] = []

    init(_ text: String) throws {
        var current: String?
        var help: (name: String, text: String)?
        var seen: Set<String> = []
        guard text.isEmpty || text.last == "\n" else { throw Violation(line: 0, rule: "the last line ends with a newline") }
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().enumerated() {
            func require(_ condition: Bool, _ rule: String) throws {
                guard condition else { throw Violation(line: index + 1, rule: "\(rule): \(line)") }
            }
            if line.hasPrefix("# HELP ") {
                let parts = line.dropFirst(7).split(separator: " ", maxSplits: 1)
                try require(parts.count == 2 && help == nil, "HELP has a name and a text, and is followed by TYPE")
                help = (String(parts[0]), String(parts[1]))
            } else if line.hasPrefix("# TYPE ") {
                let parts = line.dropFirst(7).split(separator: " ").map(String.init)
                try require(parts.count == 2 && ["counter", "gauge", "histogram"].contains(parts[1]), "TYPE has a name and a known type")
                try require(help?.name == parts[0], "TYPE follows HELP of the same name")
                try require(families[parts[0]] == nil, "a family stands once")
                try require(Self.isName(parts[0]), "a metric's name")
                families[parts[0]] = Family(type: parts[1], help: help?.text ?? "")
                order.append(parts[0])
                current = parts[0]
                help = nil
            } else {
                let sample = try Self.sample(line, index + 1)
                let family = try { () throws -> String in
                    guard let current, let family = families[current] else {
                        throw Violation(line: index + 1, rule: "samples follow their TYPE")
                    }
                    let names = family.type == "histogram" ? ["_bucket", "_sum", "_count"].map { current + $0 } : [current]
                    try require(names.contains(sample.name), "samples of a family stand together")
                    return current
                }()
                try require(
                    seen.insert("\(sample.name)\(sample.labels.sorted { $0.key < $1.key })").inserted, "a series stands once")
                families[family]?.samples.append(sample)
            }
        }
        guard help == nil else { throw Violation(line: 0, rule: "HELP is followed by TYPE") }
        for (name, family) in families where family.type == "histogram" { try Self.checkHistogram(name, family) }
        for (name, family) in families where family.type == "counter" {
            guard family.samples.allSatisfy({ $0.value >= 0 }) else { throw Violation(line: 0, rule: "\(name) is a counter and negative") }
        }
    }

    /// The value of a series; nil where there is none.
    subscript(name: String, labels: [String: String]) -> Double? {
        for suffix in ["", "_bucket", "_sum", "_count"] where name.hasSuffix(suffix) {
            if let found = families[String(name.dropLast(suffix.count))]?.samples.first(where: { $0.name == name && $0.labels == labels }) {
                return found.value
            }
        }
        return nil
    }

    private static func isName(_ text: some StringProtocol, allowsColon: Bool = true) -> Bool {
        guard let first = text.first, !first.isNumber else { return false }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "_"):
                true
            case UInt8(ascii: ":"): allowsColon
            default: false
            }
        }
    }

    private static func sample(_ line: Substring, _ number: Int) throws -> Sample {
        var rest = line
        func fail(_ rule: String) -> Violation { Violation(line: number, rule: "\(rule): \(line)") }
        let name = String(rest.prefix { $0 != "{" && $0 != " " })
        rest = rest.dropFirst(name.count)
        guard isName(name) else { throw fail("a metric's name") }
        var labels: [String: String] = [:]
        if rest.first == "{" {
            repeat {
                rest = rest.dropFirst()
                let label = String(rest.prefix { $0 != "=" })
                guard isName(label, allowsColon: false), labels[label] == nil else { throw fail("a label's name, once") }
                rest = rest.dropFirst(label.count + 1)
                guard rest.first == "\"" else { throw fail("a label's value in quotes") }
                rest = rest.dropFirst()
                var value = ""
                while let character = rest.first, character != "\"" {
                    rest = rest.dropFirst()
                    guard character == "\\" else {
                        value.append(character)
                        continue
                    }
                    switch rest.popFirst() {
                    case "n": value.append("\n")
                    case "\"": value.append("\"")
                    case "\\": value.append("\\")
                    default: throw fail("an escape")
                    }
                }
                guard rest.first == "\"" else { throw fail("a closing quote") }
                rest = rest.dropFirst()
                labels[label] = value
            } while rest.first == ","
            guard rest.first == "}" else { throw fail("a closing brace") }
            rest = rest.dropFirst()
        }
        guard rest.first == " ", let value = rest.dropFirst() == "+Inf" ? .infinity : Double(rest.dropFirst()) else {
            throw fail("a value")
        }
        return Sample(name: name, labels: labels, value: value)
    }

    private static func checkHistogram(_ name: String, _ family: Family) throws {
        func fail(_ rule: String) -> Violation { Violation(line: 0, rule: "\(name): \(rule)") }
        var buckets: [[String: String]: [(Double, Double)]] = [:]
        for sample in family.samples where sample.name == name + "_bucket" {
            var labels = sample.labels
            guard let bound = labels.removeValue(forKey: "le"), let number = bound == "+Inf" ? .infinity : Double(bound) else {
                throw fail("a bucket has a bound")
            }
            buckets[labels, default: []].append((number, sample.value))
        }
        for (labels, buckets) in buckets {
            let bounds = buckets.map(\.0)
            let counts = buckets.map(\.1)
            guard bounds == bounds.sorted(), Set(bounds).count == bounds.count, bounds.last == .infinity, bounds.count <= 13 else {
                throw fail("bounds rise to +Inf, at most twelve before it")
            }
            guard counts == counts.sorted() else { throw fail("buckets are cumulative") }
            let count = family.samples.first { $0.name == name + "_count" && $0.labels == labels }
            guard count?.value == counts.last else { throw fail("_count is the last bucket") }
            guard family.samples.contains(where: { $0.name == name + "_sum" && $0.labels == labels }) else { throw fail("_sum is there") }
        }
    }
}

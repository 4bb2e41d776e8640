import Base

/// Cells in columns, each as wide as its widest cell, two spaces between: for eyes and for awk.
struct TextTable {
    enum Side {
        case left
        /// For numbers.
        case right
    }

    private let sides: [Side]
    private var rows: [[String]] = []
    private let indent: String

    init(_ sides: [Side], indent: String = "") {
        self.sides = sides
        self.indent = indent
    }

    mutating func add(_ cells: [String]) {
        precondition(cells.count == sides.count, "\(cells.count) cells in \(sides.count) columns")
        rows.append(cells)
    }

    var text: String {
        let widths = sides.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        var text = ""
        for row in rows {
            var line = indent
            for (column, cell) in row.enumerated() {
                let room = String(repeating: " ", count: widths[column] - cell.count)
                line += (column > 0 ? "  " : "") + (sides[column] == .left ? cell + room : room + cell)
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
    }
}

/// Sizes and times as people say them.
enum Words {
    /// `512 B`, `1.5 MiB`.
    static func bytes(_ count: Int) -> String {
        var size = Double(count)
        var unit = "B"
        for next in ["KiB", "MiB", "GiB"] where abs(size) >= 1024 {
            size /= 1024
            unit = next
        }
        return unit == "B" ? "\(count) B" : "\(tenths(size)) \(unit)"
    }

    /// `250 ms`, `12.3 s`, `10 s`, `5 min 12 s`, `3 h 20 min`, `4 d 2 h`.
    static func span(_ span: Nanoseconds) -> String {
        let seconds = span.count / 1_000_000_000
        switch seconds {
        case ..<1: return "\(span.milliseconds) ms"
        case ..<60: return "\(tenths(span.seconds)) s"
        case ..<3600: return pair(seconds, 60, "min", 1, "s")
        case ..<86400: return pair(seconds, 3600, "h", 60, "min")
        default: return pair(seconds, 86400, "d", 3600, "h")
        }
    }

    /// In a large unit and the one below it, which is left out at zero.
    private static func pair(_ seconds: Int64, _ large: Int64, _ name: String, _ small: Int64, _ smallName: String) -> String {
        let rest = seconds % large / small
        return "\(seconds / large) \(name)" + (rest == 0 ? "" : " \(rest) \(smallName)")
    }

    /// `1 endpoint`, `2 endpoints`.
    static func count(_ number: some BinaryInteger, _ thing: String) -> String {
        "\(number) \(thing)\(number == 1 ? "" : "s")"
    }

    private static func tenths(_ number: Double) -> String {
        let tenths = Int((number * 10).rounded())
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
    }
}

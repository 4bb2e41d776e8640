/// Rows for people: columns as wide as they need to be, three spaces between.
struct TextTable {
    struct Cell: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
        var text: String
        var style = TextStyle.plain

        init(_ text: String, _ style: TextStyle = .plain) {
            // One row is one line.
            self.text = harmless(text).replacing("\n", with: " ")
            self.style = style
        }

        /// What there is none of.
        init(_ text: String?, else missing: String = "-") { self.init(text ?? missing) }
        init(stringLiteral value: String) { self.init(value) }
    }

    private enum Line {
        case row([Cell])
        case note(String, TextStyle)
    }

    private let titles: [String]
    private let right: Set<Int>
    private var lines: [Line] = []

    /// - Parameter titles: One that ends with `>` is of a column of numbers, aligned at the right.
    init(_ titles: [String]) {
        self.titles = titles.map { $0.hasSuffix(">") ? String($0.dropLast()) : $0 }
        right = Set(titles.indices.filter { titles[$0].hasSuffix(">") })
    }

    var isEmpty: Bool { lines.isEmpty }

    mutating func add(_ cells: [Cell]) {
        precondition(cells.count == titles.count, "\(cells.count) cells in a table of \(titles.count) columns")
        lines.append(.row(cells))
    }

    /// A line below a row, about it.
    mutating func add(note: String, _ style: TextStyle = .plain) {
        for line in harmless(note).split(separator: "\n") { lines.append(.note("  \(line)", style)) }
    }

    /// Without the newline at the end.
    func text(colored: Bool = false, titled: Bool = true) -> String {
        var widths = titled ? titles.map(\.count) : titles.map { _ in 0 }
        for case .row(let cells) in lines {
            for (index, cell) in cells.enumerated() { widths[index] = max(widths[index], cell.text.count) }
        }
        var result: [String] = []
        if titled { result.append(line(titles.map { Cell($0, .dim) }, widths, colored)) }
        for line in lines {
            switch line {
            case .row(let cells): result.append(self.line(cells, widths, colored))
            case .note(let text, let style): result.append(colored ? style.wrap(text) : text)
            }
        }
        return result.joined(separator: "\n")
    }

    private func line(_ cells: [Cell], _ widths: [Int], _ colored: Bool) -> String {
        var text = ""
        // Spaces wait for something to stand behind them, so that no line ends with them.
        var waiting = ""
        for (index, cell) in cells.enumerated() {
            let space = String(repeating: " ", count: widths[index] - cell.text.count)
            let shown = colored ? cell.style.wrap(cell.text) : cell.text
            if right.contains(index) { waiting += space }
            if !cell.text.isEmpty {
                text += waiting + shown
                waiting = ""
            }
            if !right.contains(index) { waiting += space }
            waiting += "   "
        }
        return text
    }
}

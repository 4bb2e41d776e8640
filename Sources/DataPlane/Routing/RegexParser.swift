/// Why a pattern was refused, in RE2's words where it has some.
public struct RegexError: Error, Hashable, Sendable, CustomStringConvertible {
    public var reason: String
    /// The part of the pattern at fault.
    public var fragment: String

    public var description: String { fragment.isEmpty ? reason : "\(reason): \(fragment)" }
}

/// A condition between two characters. One bit each, so that a position's true conditions are a mask.
enum RegexAssertion: UInt16 {
    case beginText = 1
    case endText = 2
    case beginLine = 4
    case endLine = 8
    case wordBoundary = 16
    case noWordBoundary = 32
}

/// What a pattern means. Greediness and captures are gone: neither changes whether a whole text matches.
indirect enum RegexNode {
    case empty
    case set(ScalarSet)
    case assertion(RegexAssertion)
    case sequence([RegexNode])
    case choice([RegexNode])
    /// `maximum` nil = without end.
    case repetition(RegexNode, minimum: Int, maximum: Int?)
}

/// A set of Unicode scalar values: disjoint ranges, ascending.
struct ScalarSet: Hashable {
    static let highest: UInt32 = 0x10ffff
    static let all = ScalarSet([0...highest])
    static let digits = ScalarSet("09")
    static let word = ScalarSet("09AZ__az")
    static let space = ScalarSet("\t\n\u{c}\r  ")
    static let newline = ScalarSet("\n\n")

    private(set) var ranges: [ClosedRange<UInt32>] = []

    init(_ ranges: [ClosedRange<UInt32>] = []) {
        for range in ranges { insert(range) }
    }

    /// First and last of each range, one after the other.
    init(_ pairs: String) {
        let scalars = pairs.unicodeScalars.map(\.value)
        for index in stride(from: 0, to: scalars.count, by: 2) { insert(scalars[index]...scalars[index + 1]) }
    }

    mutating func insert(_ range: ClosedRange<UInt32>) {
        var lower = range.lowerBound
        var upper = range.upperBound
        var kept: [ClosedRange<UInt32>] = []
        for other in ranges {
            if other.upperBound &+ 1 < lower || upper &+ 1 < other.lowerBound {
                kept.append(other)
            } else {
                lower = min(lower, other.lowerBound)
                upper = max(upper, other.upperBound)
            }
        }
        kept.append(lower...upper)
        ranges = kept.sorted { $0.lowerBound < $1.lowerBound }
    }

    mutating func formUnion(_ other: ScalarSet) {
        for range in other.ranges { insert(range) }
    }

    var inverted: ScalarSet {
        var next: UInt32 = 0
        var result: [ClosedRange<UInt32>] = []
        for range in ranges {
            if range.lowerBound > next { result.append(next...range.lowerBound - 1) }
            next = range.upperBound + 1
        }
        if next <= Self.highest { result.append(next...Self.highest) }
        return ScalarSet(result)
    }

    /// With the other case of every ASCII letter.
    var foldingCase: ScalarSet {
        var result = self
        for range in ranges {
            for (first, other) in [(UInt32(0x41), UInt32(0x61)), (0x61, 0x41)] {
                let lower = max(range.lowerBound, first)
                let upper = min(range.upperBound, first + 25)
                if lower <= upper { result.insert(lower - first + other...upper - first + other) }
            }
        }
        return result
    }
}

/// Reads RE2's syntax (Perl-like, without `(?m)` and `(?s)`), by descent.
struct RegexParser {
    /// Deeper patterns come from machines or attackers; the descent needs a bound.
    static let maxDepth = 200
    /// In scalars. Far above what people write; sets of characters take time quadratic in it.
    static let maxLength = 8192
    /// As RE2 has it.
    static let maxRepeat = 1000

    private struct Flags {
        var foldsCase = false
        var isMultiline = false
        var dotMatchesNewline = false
    }

    private let scalars: [Unicode.Scalar]
    private var index = 0
    private var flags = Flags()

    static func parse(_ pattern: String) throws(RegexError) -> RegexNode {
        var parser = RegexParser(pattern)
        if parser.scalars.count > maxLength {
            throw RegexError(reason: "pattern too large", fragment: "\(parser.scalars.count) characters, at most \(maxLength) are allowed")
        }
        let node = try parser.choice(depth: 0)
        if parser.index < parser.scalars.count { throw RegexError(reason: "unexpected )", fragment: parser.text(from: parser.index)) }
        return node
    }

    private init(_ pattern: String) {
        scalars = Array(pattern.unicodeScalars)
    }

    private func text(from start: Int, to end: Int? = nil) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars[start..<(end ?? scalars.count)])
        return String(view)
    }

    private func peek(_ offset: Int = 0) -> Unicode.Scalar? {
        index + offset < scalars.count ? scalars[index + offset] : nil
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard peek() == scalar else { return false }
        index += 1
        return true
    }

    private mutating func choice(depth: Int) throws(RegexError) -> RegexNode {
        if depth > Self.maxDepth { throw RegexError(reason: "nesting deeper than \(Self.maxDepth) groups", fragment: "") }
        var branches = [try sequence(depth: depth)]
        while take("|") { branches.append(try sequence(depth: depth)) }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence(depth: Int) throws(RegexError) -> RegexNode {
        var items: [RegexNode] = []
        var repeatable = false
        while let scalar = peek(), scalar != "|", scalar != ")" {
            if let (minimum, maximum, end) = repetition(at: index) {
                let start = index
                guard repeatable, let last = items.popLast() else {
                    throw RegexError(reason: "no argument for repetition operator", fragment: text(from: start, to: end))
                }
                if minimum > Self.maxRepeat || (maximum ?? 0) > Self.maxRepeat || minimum > maximum ?? minimum {
                    throw RegexError(reason: "bad repetition operator", fragment: text(from: start, to: end))
                }
                index = end
                _ = take("?")  // Lazy or not, the whole text matches or does not.
                if let (_, _, again) = repetition(at: index) {
                    throw RegexError(reason: "bad repetition operator", fragment: text(from: start, to: again))
                }
                items.append(.repetition(last, minimum: minimum, maximum: maximum))
                continue
            }
            if scalar == "\\", peek(1) == "Q" {
                index += 2
                while index < scalars.count, !(peek() == "\\" && peek(1) == "E") {
                    items.append(try literal(scalars[index]))
                    index += 1
                    repeatable = true
                }
                index = min(index + 2, scalars.count)
                continue
            }
            if let node = try atom(depth: depth) {
                items.append(node)
                repeatable = true
            } else {
                repeatable = false
            }
        }
        return items.isEmpty ? .empty : items.count == 1 ? items[0] : .sequence(items)
    }

    /// The repetition operator that stands at `start`: its bounds and where it ends. A brace that is none is a literal.
    private func repetition(at start: Int) -> (minimum: Int, maximum: Int?, end: Int)? {
        guard start < scalars.count else { return nil }
        switch scalars[start] {
        case "*": return (0, nil, start + 1)
        case "+": return (1, nil, start + 1)
        case "?": return (0, 1, start + 1)
        case "{":
            var position = start + 1
            func number() -> Int? {
                var value: Int?
                while position < scalars.count, case let digit = Int(scalars[position].value) - 0x30, 0...9 ~= digit {
                    value = min((value ?? 0) * 10 + digit, 1_000_000)
                    position += 1
                }
                return value
            }
            guard let minimum = number(), position < scalars.count else { return nil }
            if scalars[position] == "}" { return (minimum, minimum, position + 1) }
            guard scalars[position] == "," else { return nil }
            position += 1
            let maximum = number()
            guard position < scalars.count, scalars[position] == "}" else { return nil }
            return (minimum, maximum, position + 1)
        default: return nil
        }
    }

    /// One item of a sequence; nil where it only set flags.
    private mutating func atom(depth: Int) throws(RegexError) -> RegexNode? {
        let scalar = scalars[index]
        switch scalar {
        case "(":
            return try group(depth: depth)
        case "[":
            return .set(try bracket())
        case ".":
            index += 1
            return .set(flags.dotMatchesNewline ? .all : ScalarSet.newline.inverted)
        case "^":
            index += 1
            return .assertion(flags.isMultiline ? .beginLine : .beginText)
        case "$":
            index += 1
            return .assertion(flags.isMultiline ? .endLine : .endText)
        case "\\":
            switch peek(1) {
            case "A": return assertion(.beginText)
            case "z": return assertion(.endText)
            case "b": return assertion(.wordBoundary)
            case "B": return assertion(.noWordBoundary)
            default: break
            }
            if let set = perlClass() { return .set(set) }
            return try literal(try escape())
        default:
            index += 1
            return try literal(scalar)
        }
    }

    private mutating func assertion(_ kind: RegexAssertion) -> RegexNode {
        index += 2
        return .assertion(kind)
    }

    private func literal(_ scalar: Unicode.Scalar) throws(RegexError) -> RegexNode {
        .set(try folded(ScalarSet([scalar.value...scalar.value])))
    }

    /// Case folding beyond ASCII is refused where it could be meant, rather than left out in silence.
    private func folded(_ set: ScalarSet) throws(RegexError) -> ScalarSet {
        guard flags.foldsCase else { return set }
        for range in set.ranges where range.upperBound > 0x7f && range.upperBound != ScalarSet.highest {
            if range.count > 1 || Unicode.Scalar(range.lowerBound)?.properties.isCased != false {
                throw RegexError(reason: "(?i) folds ASCII letters only", fragment: Unicode.Scalar(range.upperBound).map(String.init) ?? "")
            }
        }
        return set.foldingCase
    }

    private mutating func group(depth: Int) throws(RegexError) -> RegexNode? {
        let start = index
        let outside = flags
        index += 1
        if take("?") {
            switch peek() {
            case "=", "!":
                throw RegexError(reason: "invalid perl operator", fragment: text(from: start, to: index + 1))
            case "<" where peek(1) == "=" || peek(1) == "!":
                throw RegexError(reason: "invalid perl operator", fragment: text(from: start, to: index + 2))
            case "P", "<":
                try groupName(start)
            default:
                guard try groupFlags(start) else { return nil }
            }
        }
        let node = try choice(depth: depth + 1)
        guard take(")") else { throw RegexError(reason: "missing closing )", fragment: text(from: start)) }
        flags = outside
        return node
    }

    /// `?P<name>` or `?<name>`.
    private mutating func groupName(_ start: Int) throws(RegexError) {
        _ = take("P")
        let isOpen = take("<")
        let name = index
        while let scalar = peek(), ScalarSet.word.ranges.contains(where: { $0.contains(scalar.value) }) { index += 1 }
        guard isOpen, index > name, take(">") else {
            throw RegexError(reason: "invalid named capture group", fragment: text(from: start, to: min(index + 1, scalars.count)))
        }
    }

    /// `?flags:`, which opens a group (true), or `?flags)`, which sets them to the end of the group around it (false).
    private mutating func groupFlags(_ start: Int) throws(RegexError) -> Bool {
        var isOn = true
        var isEmpty = true
        while let scalar = peek() {
            index += 1
            switch scalar {
            case "i": flags.foldsCase = isOn
            case "m": flags.isMultiline = isOn
            case "s": flags.dotMatchesNewline = isOn
            case "U": break
            case "-" where isOn:
                isOn = false
                isEmpty = true
                continue
            case ":" where isOn || !isEmpty: return true
            case ")" where !isEmpty: return false
            default: throw RegexError(reason: "invalid perl operator", fragment: text(from: start, to: index))
            }
            isEmpty = false
        }
        throw RegexError(reason: "missing closing )", fragment: text(from: start))
    }

    /// `\d` and its kin, in or outside of brackets.
    private mutating func perlClass() -> ScalarSet? {
        guard peek() == "\\" else { return nil }
        let set: ScalarSet
        switch peek(1) {
        case "d": set = .digits
        case "D": set = ScalarSet.digits.inverted
        case "w": set = .word
        case "W": set = ScalarSet.word.inverted
        case "s": set = .space
        case "S": set = ScalarSet.space.inverted
        default: return nil
        }
        index += 2
        return set
    }

    /// The scalar that the escape at `index` stands for.
    private mutating func escape() throws(RegexError) -> Unicode.Scalar {
        let start = index
        index += 1
        guard let scalar = peek() else { throw RegexError(reason: "trailing \\ at end of pattern", fragment: "") }
        index += 1
        switch scalar {
        case "a": return "\u{7}"
        case "f": return "\u{c}"
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "v": return "\u{b}"
        case "0"..."7":
            // `\1` alone would be a back-reference, which no linear-time matcher has.
            guard scalar == "0" || (peek().map { "0"..."7" ~= $0 } ?? false) else { break }
            var value = scalar.value - 0x30
            for _ in 0..<2 {
                guard let digit = peek(), "0"..."7" ~= digit else { break }
                value = value * 8 + digit.value - 0x30
                index += 1
            }
            if let scalar = Unicode.Scalar(value) { return scalar }
        case "x":
            if let scalar = hexadecimal() { return scalar }
        case "p", "P":
            if take("{") {
                while let next = peek(), next != "}" { _ = take(next) }
            }
            index = min(index + 1, scalars.count)
            throw RegexError(reason: "Unicode classes are not supported", fragment: text(from: start, to: index))
        default:
            let isAlphanumeric = scalar != "_" && ScalarSet.word.ranges.contains { $0.contains(scalar.value) }
            if scalar.isASCII, !isAlphanumeric { return scalar }
        }
        throw RegexError(reason: "invalid escape sequence", fragment: text(from: start, to: index))
    }

    /// `7F` or `{10FFFF}` after `\x`.
    private mutating func hexadecimal() -> Unicode.Scalar? {
        var value: UInt32 = 0
        func digit(_ scalar: Unicode.Scalar?) -> UInt32? {
            scalar.flatMap { $0.isASCII ? Character($0).hexDigitValue : nil }.map { UInt32($0) }
        }
        if take("{") {
            let start = index
            while let next = digit(peek()), value <= ScalarSet.highest {
                value = value * 16 + next
                index += 1
            }
            guard index > start, take("}") else { return nil }
        } else {
            guard let high = digit(peek()), let low = digit(peek(1)) else { return nil }
            index += 2
            value = high * 16 + low
        }
        return Unicode.Scalar(value)
    }

    private mutating func bracket() throws(RegexError) -> ScalarSet {
        let start = index
        index += 1
        let isInverted = take("^")
        var set = ScalarSet()
        var isFirst = true
        while isFirst || peek() != "]" {
            isFirst = false
            guard peek() != nil else { throw RegexError(reason: "missing closing ]", fragment: text(from: start)) }
            if peek() == "[", peek(1) == ":", let named = try namedClass() {
                set.formUnion(try folded(named))
            } else if let perl = perlClass() {
                set.formUnion(try folded(perl))
            } else {
                set.formUnion(try folded(ScalarSet([try bracketRange(start)])))
            }
        }
        index += 1
        return isInverted ? set.inverted : set
    }

    private mutating func bracketRange(_ bracket: Int) throws(RegexError) -> ClosedRange<UInt32> {
        let start = index
        let first = try bracketScalar(bracket)
        guard peek() == "-", let after = peek(1), after != "]" else { return first.value...first.value }
        index += 1
        let last = try bracketScalar(bracket)
        guard first <= last else { throw RegexError(reason: "invalid character class range", fragment: text(from: start, to: index)) }
        return first.value...last.value
    }

    private mutating func bracketScalar(_ bracket: Int) throws(RegexError) -> Unicode.Scalar {
        guard let scalar = peek() else { throw RegexError(reason: "missing closing ]", fragment: text(from: bracket)) }
        if scalar == "\\" { return try escape() }
        index += 1
        return scalar
    }

    /// `[:alpha:]`, `[:^alpha:]`. Nil where no `:]` closes it: then the bracket is a literal.
    private mutating func namedClass() throws(RegexError) -> ScalarSet? {
        var end = index + 2
        while end + 1 < scalars.count, !(scalars[end] == ":" && scalars[end + 1] == "]") { end += 1 }
        guard end + 1 < scalars.count else { return nil }
        let whole = text(from: index, to: end + 2)
        var name = text(from: index + 2, to: end)
        let isInverted = name.hasPrefix("^")
        if isInverted { name.removeFirst() }
        let pairs: String
        switch name {
        case "alnum": pairs = "09AZaz"
        case "alpha": pairs = "AZaz"
        case "ascii": pairs = "\0\u{7f}"
        case "blank": pairs = "\t\t  "
        case "cntrl": pairs = "\0\u{1f}\u{7f}\u{7f}"
        case "digit": pairs = "09"
        case "graph": pairs = "!~"
        case "lower": pairs = "az"
        case "print": pairs = " ~"
        case "punct": pairs = "!/:@[`{~"
        case "space": pairs = "\t\r  "
        case "upper": pairs = "AZ"
        case "word": pairs = "09AZ__az"
        case "xdigit": pairs = "09AFaf"
        default: throw RegexError(reason: "invalid character class range", fragment: whole)
        }
        index = end + 2
        let set = ScalarSet(pairs)
        return isInverted ? set.inverted : set
    }
}

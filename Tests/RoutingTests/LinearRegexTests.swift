import Base
import Testing

@testable import Routing

extension LinearRegex {
    /// Spans do not fit into `#expect`.
    fileprivate func matches(_ text: [UInt8]) -> Bool { matches(text.span) }
}

/// Matches with both automata, which must agree.
private func matches(_ pattern: String, _ text: [UInt8]) throws -> Bool {
    let regex = try LinearRegex(pattern)
    var budget = LinearRegex.Budget.none
    let parallel = try LinearRegex(pattern, budget: &budget)
    #expect(parallel.table.isEmpty)
    let result = regex.matches(text)
    #expect(parallel.matches(text) == result, "the two automata of \(pattern) disagree")
    return result
}

@Suite("Patterns in RE2's syntax")
struct LinearRegexTests {
    @Test(
        "Which texts a pattern matches whole",
        arguments: [
            // Literals and sequences.
            ("", "", true), ("", "a", false), ("a", "a", true), ("a", "", false), ("a", "aa", false), ("abc", "abc", true),
            ("abc", "abd", false), ("/v1/items", "/v1/items", true), ("-", "-", true), ("]", "]", true), ("}", "}", true),
            ("{", "{", true), ("a{", "a{", true), ("a{,2}", "a{,2}", true), ("a{,2}", "aa", false), ("a{1", "a{1", true),
            ("a{x}", "a{x}", true), ("a{1,x}", "a{1,x}", true), ("x{2,3", "x{2,3", true),
            // Any character.
            (".", "x", true), (".", "", false), (".", "\n", false), ("(?s).", "\n", true), ("(?s:.).", "\n\n", false), (".", "é", true),
            (".", "😀", true), ("..", "é", false), (".*", "/a/b/c", true), (".*", "a\nb", false), ("(?s).*", "a\nb", true),
            // Alternation and groups.
            ("a|b", "a", true), ("a|b", "b", true), ("a|b", "ab", false), ("a|", "", true), ("|a", "a", true), ("a||b", "", true),
            ("(a|b)c", "bc", true), ("a|bc", "ac", false), ("()", "", true), ("(|a)+", "aaa", true), ("(?:ab)+", "abab", true),
            ("(?P<n>a)b", "ab", true), ("(?<n_1>a)b", "ab", true), ("((a)(b))", "ab", true), ("(ab|a)(bc|c)", "abc", true),
            ("a|ab", "ab", true), ("(a|ab)(c|bcd)(d*)", "abcd", true),
            // Repetition.
            ("a*", "", true), ("a*", "aaa", true), ("a*", "ab", false), ("a+", "", false), ("a+", "aa", true), ("a?", "", true),
            ("a?", "a", true), ("a?", "aa", false), ("a*?", "aaa", true), ("a+?b", "aab", true), ("a??", "a", true), ("a{3}", "aaa", true),
            ("a{3}", "aa", false), ("a{3}", "aaaa", false), ("a{2,}", "a", false), ("a{2,}", "aaaaa", true), ("a{2,4}", "aaaa", true),
            ("a{2,4}", "aaaaa", false), ("a{2,4}?", "aaa", true), ("a{0}", "", true), ("a{0}", "a", false), ("a{0,1}", "a", true),
            ("a{0,}", "aa", true), ("a{1000}", String(repeating: "a", count: 1000), true), ("(ab){2}", "abab", true),
            ("ab{2}", "abb", true),
            ("(a*)*", "aaa", true), ("(a*)+", "", true), ("(a+)*b", "aab", true), ("(a|b*)*", "abba", true), ("(a?){3}", "aa", true),
            ("(a{2}){2}", "aaaa", true), ("(a{2}){2}", "aaa", false), ("(^)*a", "a", true), ("x*x*x", "x", true), ("(){3}", "", true),
            // Classes.
            ("[abc]", "b", true), ("[abc]", "d", false), ("[a-c]+", "abc", true), ("[^a-c]", "d", true), ("[^a-c]", "b", false),
            ("[^a]", "\n", true), ("[^a]", "é", true), ("[]a]+", "]a", true), ("[^]a]", "b", true), ("[^]a]", "]", false),
            ("[a-]+", "a-", true),
            ("[-a]+", "-a", true), ("[a\\-c]+", "a-c", true), ("[a\\-c]", "b", false), ("[a-c-e]+", "b-e", true), ("[a-c-e]", "d", false),
            ("[.*+?]+", "*.?+", true), ("[\\]]", "]", true), ("[\\\\]", "\\", true), ("[[]", "[", true), ("[a^]+", "^a", true),
            ("[é-ü]", "ö", true), ("[é-ü]", "ý", false), ("[^é]", "e", true), ("[^é]", "é", false), ("[a-zé]+", "né", true),
            ("[$^]+", "^$", true),
            ("[\\d-z]+", "5-z", true), ("[\\d-z]", "a", false), ("[\\x41-\\x43]+", "ABC", true), ("[\\n]", "\n", true),
            ("[^\\x{0}-\\x{10FFFF}]", "a", false), ("[^\\x{0}-\\x{10FFFF}]|b", "b", true), ("[[:x]+", "[:x", true),
            // Perl's and POSIX's classes.
            ("\\d+", "0129", true), ("\\d", "a", false), ("\\d", "٣", false), ("\\D", "a", true), ("\\D", "٣", true),
            ("\\w+", "a_Z9", true),
            ("\\w", "é", false), ("\\w", "-", false), ("\\W", "é", true), ("\\s+", " \t\n\r\u{c}", true), ("\\s", "\u{b}", false),
            ("\\S+", "a\u{b}", true),
            ("[\\d_]+", "1_2", true), ("[^\\d]", "1", false), ("[\\D]", "a", true), ("[\\w.]+", "a.b", true), ("[^\\W]", "a", true),
            ("[[:alpha:]]+", "aZ", true), ("[[:alpha:]]", "1", false), ("[[:^alpha:]]", "1", true), ("[^[:alpha:]]", "a", false),
            ("[[:digit:][:upper:]]+", "1A", true), ("[[:xdigit:]]+", "fF09", true), ("[[:xdigit:]]", "g", false),
            ("[[:space:]]", "\u{b}", true),
            ("[[:punct:]]+", "!/:@[`{~", true), ("[[:punct:]]", "a", false), ("[[:word:]-]+", "a-b", true), ("[[:blank:]]", "\n", false),
            ("[[:cntrl:]]", "\u{7f}", true), ("[[:graph:]]", " ", false), ("[[:print:]]", " ", true), ("[[:ascii:]]", "é", false),
            ("[[:alnum:]]+", "a1", true), ("[[:lower:]]", "A", false),
            // Anchors and boundaries.
            ("^a$", "a", true), ("^a$", "a\n", false), ("a^b", "ab", false), ("a$b", "ab", false), ("^^a$$", "a", true), ("^$", "", true),
            ("$^", "", true), ("(^a|b)c", "ac", true), ("x(^a|b)", "xa", false), ("x(^a|b)", "xb", true), ("\\Aab\\z", "ab", true),
            ("a\\Ab", "ab", false), ("(?m)^a$\n^b$", "a\nb", true), ("(?m)a$b", "ab", false), ("a$\n^b", "a\nb", false),
            ("(?m)a\n\\Ab", "a\nb", false),
            ("\\bab\\b", "ab", true), ("a\\bb", "ab", false), ("a\\Bb", "ab", true), ("a\\b-\\bb", "a-b", true), ("a\\B-", "a-", false),
            ("\\Ba", "a", false), ("\\B", "", true), ("\\b", "", false), (".*\\bcat\\b.*", "a cat!", true),
            (".*\\bcat\\b.*", "concat", false),
            ("é\\ba", "éa", true), ("^*a", "a", true), ("(?:^a)*", "aa", false),
            // Escapes.
            ("\\.", ".", true), ("\\.", "x", false), ("\\/", "/", true),
            ("\\*\\+\\?\\(\\)\\[\\]\\{\\}\\|\\^\\$\\\\", "*+?()[]{}|^$\\", true),
            ("\\_\\-\\ ", "_- ", true), ("\\t\\n\\r\\f\\v\\a", "\t\n\r\u{c}\u{b}\u{7}", true), ("\\x41\\x{e9}\\x{1F600}", "Aé😀", true),
            ("\\x4a", "J", true),
            ("\\101\\60\\0", "A0\0", true), ("\\12", "\n", true), ("\\1011", "A1", true), ("\\08", "\0" + "8", true),
            ("\\Qa.b*\\E+", "a.b**", true), ("\\Qa.b\\E", "axb", false), ("\\Q\\E", "", true), ("\\Qa|b", "a|b", true),
            ("\\Qab\\Ec", "abc", true),
            ("\\Q\\\\E", "\\", true),
            // Flags.
            ("(?i)abc", "aBC", true), ("(?i)[a-c]+", "ABc", true), ("(?i)[^a]", "A", false), ("(?i:a)b", "Ab", true),
            ("(?i:a)b", "AB", false),
            ("a(?i)b", "aB", true), ("a(?i)b", "AB", false), ("(a(?i)b)c", "aBc", true), ("(a(?i)b)c", "aBC", false),
            ("(?i)(?-i)a", "A", false),
            ("(?i)a(?-i:b)c", "AbC", true), ("(?i)a(?-i:b)c", "ABC", false), ("(?is).a", "\nA", true), ("(?U)a+", "aa", true),
            ("(?i)1-_", "1-_", true),
            ("(?i)\\x41", "a", true), ("(?i)ß?", "", nil), ("(?i)日", "日", true), ("a(?i)|b", "B", true), ("(?i)[[:upper:]]", "a", true),
            ("(?i)@", "`", false),
            // What paths and headers look like.
            ("/items/[0-9]+(/.*)?", "/items/42", true), ("/items/[0-9]+(/.*)?", "/items/42/x/y", true),
            ("/items/[0-9]+(/.*)?", "/items/", false),
            ("/[^/]+/status", "/a/status", true), ("/[^/]+/status", "/a/b/status", false), ("(.*\\.)?example\\.com", "a.example.com", true),
            ("(.*\\.)?example\\.com", "xexample.com", false), (".*(iPhone|Android).*", "Mozilla (Android 14)", true),
            ("v[0-9]{1,3}(\\.[0-9]{1,3}){0,2}", "v1.20.3", true), ("v[0-9]{1,3}(\\.[0-9]{1,3}){0,2}", "v1.20.3.4", false),
            ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "01234567-89ab-cdef-0123-456789abcdef", true),
            ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "01234567-89ab-cdef-0123-456789abcde", false),
        ] as [(String, String, Bool?)])
    func table(pattern: String, text: String, expected: Bool?) throws {
        guard let expected else {
            #expect(throws: RegexError.self) { try LinearRegex(pattern) }
            return
        }
        #expect(try matches(pattern, Array(text.utf8)) == expected)
    }

    @Test(
        "A pattern that is wrong or not supported is refused, and the error names the part",
        arguments: [
            ("a\\1", "invalid escape sequence: \\1"),
            ("(a)\\8", "invalid escape sequence: \\8"),
            ("\\k<n>", "invalid escape sequence: \\k"),
            ("\\q", "invalid escape sequence: \\q"),
            ("\\C", "invalid escape sequence: \\C"),
            ("\\Z", "invalid escape sequence: \\Z"),
            ("\\E", "invalid escape sequence: \\E"),
            ("[\\b]", "invalid escape sequence: \\b"),
            ("\\x{110000}", "invalid escape sequence: \\x{110000}"),
            ("\\x{d800}", "invalid escape sequence: \\x{d800}"),
            ("\\x4", "invalid escape sequence: \\x"),
            ("\\x{}", "invalid escape sequence: \\x{"),
            ("a\\", "trailing \\ at end of pattern"),
            ("[a\\", "trailing \\ at end of pattern"),
            ("a(?=b)", "invalid perl operator: (?="),
            ("a(?!b)", "invalid perl operator: (?!"),
            ("(?<=a)b", "invalid perl operator: (?<="),
            ("(?<!a)b", "invalid perl operator: (?<!"),
            ("(?>a)", "invalid perl operator: (?>"),
            ("(?#c)", "invalid perl operator: (?#"),
            ("(?x)a", "invalid perl operator: (?x"),
            ("(?i-)a", "invalid perl operator: (?i-)"),
            ("(?i", "missing closing ): (?i"),
            ("(?P<n", "invalid named capture group: (?P<n"),
            ("(?P<>a)", "invalid named capture group: (?P<>"),
            ("(?P=n)", "invalid named capture group: (?P="),
            ("(a", "missing closing ): (a"),
            ("a(b(c)", "missing closing ): (b(c)"),
            ("a)b", "unexpected ): )b"),
            ("[a", "missing closing ]: [a"),
            ("[", "missing closing ]: ["),
            ("[]", "missing closing ]: []"),
            ("[^]", "missing closing ]: [^]"),
            ("[a-", "missing closing ]: [a-"),
            ("[z-a]", "invalid character class range: z-a"),
            ("[a-\\d]", "invalid escape sequence: \\d"),
            ("[[:foo:]]", "invalid character class range: [:foo:]"),
            ("\\pL", "Unicode classes are not supported: \\pL"),
            ("\\p{Greek}x", "Unicode classes are not supported: \\p{Greek}"),
            ("[\\PN]", "Unicode classes are not supported: \\PN"),
            ("\\p", "Unicode classes are not supported: \\p"),
            ("*", "no argument for repetition operator: *"),
            ("a|*", "no argument for repetition operator: *"),
            ("(+)", "no argument for repetition operator: +"),
            ("{2}", "no argument for repetition operator: {2}"),
            ("(?i)*", "no argument for repetition operator: *"),
            ("a**", "bad repetition operator: **"),
            ("a*{2}", "bad repetition operator: *{2}"),
            ("a{2}{3}", "bad repetition operator: {2}{3}"),
            ("a*??", "bad repetition operator: *??"),
            ("a++", "bad repetition operator: ++"),
            ("a{1001}", "bad repetition operator: {1001}"),
            ("a{1,1001}", "bad repetition operator: {1,1001}"),
            ("a{99999999999999999999}", "bad repetition operator: {99999999999999999999}"),
            ("a{2,1}", "bad repetition operator: {2,1}"),
            ("(a{1000}){1000}", "pattern too large: more than 4096 states"),
            ("((){1000}){1000}", "pattern too large: more than 65536 repeated parts"),
            (String(repeating: "(", count: 300), "nesting deeper than 200 groups"),
            (String(repeating: "a", count: 9000), "pattern too large: 9000 characters, at most 8192 are allowed"),
            ("(?i)é", "(?i) folds ASCII letters only: é"),
            ("(?i)[à-ü]", "(?i) folds ASCII letters only: ü"),
        ])
    func errors(pattern: String, expected: String) {
        let error = #expect(throws: RegexError.self) { try LinearRegex(pattern) }
        #expect(error?.description == expected)
    }

    @Test(
        "What is not UTF-8 matches nothing",
        arguments: [
            [0x80], [0xff], [0xc3], [0xc0, 0xaf], [0xe0, 0x80, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80],
            [0xf5, 0x80, 0x80, 0x80],
            [0x61, 0xe2, 0x82], [0xf0, 0x8f, 0xbf, 0xbf], [0xc3, 0x61],
        ] as [[UInt8]])
    func invalidText(text: [UInt8]) throws {
        #expect(try !matches("(?s).*", text))
        #expect(try !matches("[^a]*|.", text))
    }

    @Test("Both automata agree with a backtracking matcher on random patterns")
    func agreesWithBacktracking() throws {
        let alphabet: [Unicode.Scalar] = ["a", "b", "c", "_", "-", "\n", "é"]
        for seed in 0..<3000 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let flags = ["", "(?s)", "(?m)", "(?i)"][random.below(4)]
            let pattern = RandomPattern(depth: 3, flags: flags, &random)
            let regex = try LinearRegex(flags + pattern.text)
            var budget = LinearRegex.Budget.none
            let parallel = try LinearRegex(flags + pattern.text, budget: &budget)
            for _ in 0..<12 {
                var view = String.UnicodeScalarView()
                for _ in 0..<random.below(7) { view.append(alphabet[random.below(alphabet.count)]) }
                let bytes = Array(String(view).utf8)
                let expected = pattern.matchesWhole(Array(view))
                // A message for each of so many would take longer than all the matching.
                if regex.matches(bytes) == expected, parallel.matches(bytes) == expected { continue }
                Issue.record("seed \(seed): \(flags + pattern.text) on \(String(view).debugDescription) is not \(expected)")
            }
        }
    }

    @Test("No text is a pattern that stops the parser: it is refused, or its automata agree")
    func anyPattern() {
        let pieces = [
            "a", "é", "(", ")", "(?", "(?i)", ":", "[", "]", "[^", "[:alpha:]", "-", "*", "+", "?", "{", "2", ",", "}", "|", "\\", "x", "Q",
            "E", "^", "$",
        ]
        var accepted = 0
        for seed in 0..<5000 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let pattern = (0..<random.below(12)).map { _ in pieces[random.below(pieces.count)] }.joined()
            guard let regex = try? LinearRegex(pattern) else { continue }
            var budget = LinearRegex.Budget.none
            guard let parallel = try? LinearRegex(pattern, budget: &budget) else {
                Issue.record("seed \(seed): \(pattern) is a pattern only with a budget")
                continue
            }
            accepted += 1
            for text in ["", "a", "aa", "é", "a-2", pattern] where regex.matches(Array(text.utf8)) != parallel.matches(Array(text.utf8)) {
                Issue.record("seed \(seed): the automata of \(pattern) disagree on \(text)")
            }
        }
        #expect(accepted > 1000)
    }

    @Test(
        "Time is linear in the text, whatever the pattern",
        arguments: [
            ("(a*)*b", "a"), ("(a+)+b", "a"), ("(a|aa)+b", "a"), ("(a?){30}a{30}", "a"), ("(.*)(.*)(.*)(.*)x", "a"), ("([a-z]+)*!", "q"),
            ("(x+x+)+y", "x"), (".*a.{12}", "ab"), ("(^a|\\ba|a)*b", "a"), ("((a{0,9}){0,9}){0,9}b", "a"),
        ])
    func linearTime(pattern: String, unit: String) throws {
        let text = Array(String(repeating: unit, count: 65_536 / unit.utf8.count).utf8)
        var budget = LinearRegex.Budget.none
        let parallel = try LinearRegex(pattern, budget: &budget)
        var run = ParallelRun()
        run.start(parallel)
        run.feed(text.span, parallel)
        // A state is looked at twice, and has at most two successors.
        #expect(run.steps <= 4 * parallel.program.stateCount * (text.count + 1))

        let regex = try LinearRegex(pattern)
        var table = TableRun()
        table.start(regex)
        if !regex.table.isEmpty { table.feed(text.span, regex) }
        #expect(table.steps <= text.count)
        #expect(regex.matches(text) == run.finish(parallel))
    }

    @Test("Patterns of everyday use get a table; a table stays within its bound")
    func tables() throws {
        for pattern in ["/items/[0-9]+(/.*)?", "(.*\\.)?example\\.com", "[^/]{1,100}", "^/v[12]/(users|orders)/[^/]+$", "(?i)\\bbot\\b"] {
            #expect(try !LinearRegex(pattern).table.isEmpty, "\(pattern)")
        }
        for pattern in [".*a.{20}", ".*a.{300}b.{300}", "((a{0,30}){0,30}){0,2}b"] {
            #expect(try LinearRegex(pattern).table.count <= 1 << 15, "\(pattern)")
        }
        #expect(try LinearRegex(".*a.{20}").table.isEmpty)
    }

    @Test("A budget that is used up leaves patterns that still match")
    func budget() throws {
        var budget = LinearRegex.Budget(entries: 40, steps: 1_000_000)
        let first = try LinearRegex("ab*", budget: &budget)
        let second = try LinearRegex("abcdefgh*", budget: &budget)
        #expect(!first.table.isEmpty)
        #expect(second.table.isEmpty)
        #expect(budget.entries == 40 - first.table.count)
        #expect(second.matches(Array("abcdefghh".utf8)))
    }
}

/// A random pattern and its meaning by the plainest of matchers: try everything, go back when it fails.
private struct RandomPattern {
    indirect enum Node {
        case set((Unicode.Scalar) -> Bool)
        case assertion((_ before: Unicode.Scalar?, _ after: Unicode.Scalar?) -> Bool)
        case sequence([Node])
        case choice([Node])
        case repetition(Node, Int, Int)
    }

    var text: String
    private var node: Node

    init(depth: Int, flags: String, _ random: inout SeededRandom) {
        (text, node) = Self.choice(depth: depth, flags: flags, &random)
    }

    func matchesWhole(_ text: [Unicode.Scalar]) -> Bool {
        Self.match(node, text, 0) { $0 == text.count }
    }

    private static func match(_ node: Node, _ text: [Unicode.Scalar], _ place: Int, then next: (Int) -> Bool) -> Bool {
        switch node {
        case .set(let contains):
            return place < text.count && contains(text[place]) && next(place + 1)
        case .assertion(let holds):
            return holds(place > 0 ? text[place - 1] : nil, place < text.count ? text[place] : nil) && next(place)
        case .sequence(let nodes):
            guard let first = nodes.first else { return next(place) }
            return match(first, text, place) { match(.sequence(Array(nodes.dropFirst())), text, $0, then: next) }
        case .choice(let nodes):
            return nodes.contains { match($0, text, place, then: next) }
        case .repetition(let node, let minimum, let maximum):
            if minimum > 0 {
                return match(node, text, place) { match(.repetition(node, minimum - 1, maximum - 1), text, $0, then: next) }
            }
            if next(place) { return true }
            // A round that takes nothing leads nowhere new.
            return maximum > 0
                && match(node, text, place) { $0 > place && match(.repetition(node, 0, maximum - 1), text, $0, then: next) }
        }
    }

    private static func isWord(_ scalar: Unicode.Scalar?) -> Bool {
        scalar == "a" || scalar == "b" || scalar == "c" || scalar == "_"
    }

    private static func choice(depth: Int, flags: String, _ random: inout SeededRandom) -> (String, Node) {
        let branches = (0..<(random.below(4) == 0 ? 2 : 1)).map { _ in sequence(depth: depth, flags: flags, &random) }
        return (branches.map(\.0).joined(separator: "|"), .choice(branches.map(\.1)))
    }

    private static func sequence(depth: Int, flags: String, _ random: inout SeededRandom) -> (String, Node) {
        let items = (0..<random.below(4)).map { _ in item(depth: depth, flags: flags, &random) }
        return (items.map(\.0).joined(), .sequence(items.map(\.1)))
    }

    private static func item(depth: Int, flags: String, _ random: inout SeededRandom) -> (String, Node) {
        let (text, node) = atom(depth: depth, flags: flags, &random)
        let lazy = random.below(3) == 0 ? "?" : ""
        switch random.below(9) {
        case 0: return ("\(text)*\(lazy)", .repetition(node, 0, 99))
        case 1: return ("\(text)+\(lazy)", .repetition(node, 1, 99))
        case 2: return ("\(text)?\(lazy)", .repetition(node, 0, 1))
        case 3:
            let minimum = random.below(3)
            let maximum = minimum + random.below(3)
            return ("\(text){\(minimum),\(maximum)}\(lazy)", .repetition(node, minimum, maximum))
        default: return (text, node)
        }
    }

    private static func atom(depth: Int, flags: String, _ random: inout SeededRandom) -> (String, Node) {
        let isMultiline = flags == "(?m)"
        switch random.below(depth > 0 ? 14 : 10) {
        case 0: return (".", .set { $0 != "\n" || flags == "(?s)" })
        case 1: return ("[ab-]", .set { $0 == "a" || $0 == "b" || $0 == "-" })
        case 2: return ("[^a-c]", .set { !("a"..."c" ~= $0) })
        case 3: return ("\\W", .set { !isWord($0) })
        case 4: return ("\\n", .set { $0 == "\n" })
        case 5:
            switch random.below(4) {
            case 0: return ("^", .assertion { before, _ in before == nil || isMultiline && before == "\n" })
            case 1: return ("$", .assertion { _, after in after == nil || isMultiline && after == "\n" })
            case 2: return ("\\b", .assertion { before, after in isWord(before) != isWord(after) })
            default: return ("\\B", .assertion { before, after in isWord(before) == isWord(after) })
            }
        case 6: return flags == "(?i)" ? ("B", .set { $0 == "b" }) : ("é", .set { $0 == "é" })
        case 7, 8: return ("a", .set { $0 == "a" })
        case 9: return ("b", .set { $0 == "b" })
        default:
            let (text, node) = choice(depth: depth - 1, flags: flags, &random)
            return (["(\(text))", "(?:\(text))"][random.below(2)], node)
        }
    }
}

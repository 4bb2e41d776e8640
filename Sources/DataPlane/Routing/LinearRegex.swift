/// A pattern in RE2's syntax that matches whole texts, in time linear in the text and memory fixed when it is built.
///
/// The pattern becomes a nondeterministic automaton over classes of Unicode scalars. Where the deterministic automaton of it is small
/// enough, it is built at once and matching is one table look-up a scalar; otherwise the nondeterministic one is run, its states a
/// bit set on the stack. Both are immutable: any number of threads may match at once, without allocation.
///
/// As in RE2: `$` without `(?m)` is the end of the text, `.` without `(?s)` is not a newline, text that is not UTF-8 matches nothing.
/// Other than RE2: `\C`, Unicode classes and `(?i)` on cased letters beyond ASCII are refused.
public final class LinearRegex: Sendable {
    /// What building the automata of a table may cost in all: a configuration with many patterns must neither stop a worker nor fill
    /// its memory. Patterns beyond it work, more slowly.
    struct Budget {
        /// Entries of transition tables, two bytes each.
        var entries = 4 << 20
        /// State visits.
        var steps = 50_000_000

        static let none = Budget(entries: 0, steps: 0)
    }

    let program: RegexProgram
    /// Rows of one UInt16 a class, which is the start of the next row, and at last whether the text may end here. Row 0 is the state
    /// from which nothing matches. Empty = the automaton was too large.
    let table: [UInt16]

    /// - Throws: what in the pattern is wrong or not supported, or that its program is too large.
    public convenience init(_ pattern: String) throws(RegexError) {
        var budget = Budget()
        try self.init(pattern, budget: &budget)
    }

    init(_ pattern: String, budget: inout Budget) throws(RegexError) {
        program = try RegexProgram(RegexParser.parse(pattern))
        table = Determinizer.table(of: program, budget: &budget)
    }

    /// Whether the whole text matches.
    public func matches(_ text: Span<UInt8>) -> Bool {
        if table.isEmpty {
            var run = ParallelRun()
            run.start(self)
            run.feed(text, self)
            return run.finish(self)
        }
        var run = TableRun()
        run.start(self)
        run.feed(text, self)
        return run.finish(self)
    }
}

/// One match in progress, fed piece by piece. A scalar must not span pieces.
protocol RegexRun {
    init()
    mutating func start(_ regex: LinearRegex)
    mutating func feed(_ text: Span<UInt8>, _ regex: LinearRegex)
    mutating func finish(_ regex: LinearRegex) -> Bool
}

struct TableRun: RegexRun {
    private var row = 0
    private(set) var steps = 0

    mutating func start(_ regex: LinearRegex) {
        row = regex.program.classCount + 1
    }

    mutating func feed(_ text: Span<UInt8>, _ regex: LinearRegex) {
        var index = 0
        while index < text.count, row != 0 {
            steps &+= 1
            row = Int(regex.table[row &+ regex.program.nextClass(text, &index)])
        }
    }

    mutating func finish(_ regex: LinearRegex) -> Bool {
        regex.table[row + regex.program.classCount] != 0
    }
}

/// Follows all states at once. Its size is what bounds a program: 0.5 KiB a set and 8 KiB for the states that wait to be followed.
struct ParallelRun: RegexRun {
    private var states = InlineArray<64, UInt64>(repeating: 0)
    private var context = RegexProgram.Context.begin
    private(set) var steps = 0

    mutating func start(_ regex: LinearRegex) {
        var stack = InlineArray<4096, UInt16>(repeating: 0)
        var span = states.mutableSpan
        var stackSpan = stack.mutableSpan
        steps += regex.program.close(regex.program.entry, conditions: 0, into: &span, stack: &stackSpan)
    }

    mutating func feed(_ text: Span<UInt8>, _ regex: LinearRegex) {
        var stack = InlineArray<4096, UInt16>(repeating: 0)
        var stackSpan = stack.mutableSpan
        var index = 0
        while index < text.count {
            let scalarClass = regex.program.nextClass(text, &index)
            var next = InlineArray<64, UInt64>(repeating: 0)
            var current = states.mutableSpan
            var nextSpan = next.mutableSpan
            let (visited, isAlive) = regex.program.step(
                &current, scalarClass, after: context, into: &nextSpan, stack: &stackSpan)
            steps += visited
            states = next
            context = regex.program.context(of: scalarClass)
            if !isAlive { return }
        }
    }

    mutating func finish(_ regex: LinearRegex) -> Bool {
        var stack = InlineArray<4096, UInt16>(repeating: 0)
        var stackSpan = stack.mutableSpan
        var current = states.mutableSpan
        return regex.program.accepts(&current, after: context, stack: &stackSpan)
    }
}

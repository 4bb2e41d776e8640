/// The nondeterministic automaton of a pattern, over classes of scalars that the pattern never tells apart.
struct RegexProgram: Sendable {
    /// States a program may have. RE2's own bound in Envoy is 100 by default; this one is what a match's scratch on the stack holds.
    static let maxStates = 4096
    /// Words of all sets together (128 KiB).
    static let maxSetWords = 16384

    struct State: Sendable {
        enum Kind: UInt8 {
            /// The text may end here.
            case match
            /// Takes a scalar class from `low` through `high`, goes to `next`.
            case range
            /// Takes a scalar class of set number `low`, goes to `next`.
            case set
            /// Goes to `next` and `low` without taking anything.
            case split
            /// Goes to `next` where condition `low` holds.
            case assertion
        }

        var kind: Kind
        var low: UInt16 = 0
        var high: UInt16 = 0
        var next: UInt16 = 0
    }

    /// What stands on one side of a position, as far as assertions ask.
    enum Context: UInt8 {
        case begin
        case end
        case newline
        case word
        case other
    }

    /// State 0 is the match.
    private(set) var states: [State] = [State(kind: .match)]
    private(set) var entry = 0
    /// Scalars from `boundaries[n]` to before the next belong to class n; one more class takes what is not UTF-8.
    private let boundaries: [UInt32]
    private let asciiClasses: [UInt16]
    private let contexts: [Context]
    private var setBits: [UInt64] = []
    private let setWords: Int
    private let hasAssertions: Bool

    /// Columns of the table of a deterministic automaton.
    var classCount: Int { boundaries.count + 1 }
    var stateCount: Int { states.count }

    init(_ node: RegexNode) throws(RegexError) {
        var starts: Set<UInt32> = [0]
        var conditions: UInt16 = 0
        func insert(_ set: ScalarSet) {
            for range in set.ranges {
                starts.insert(range.lowerBound)
                if range.upperBound < ScalarSet.highest { starts.insert(range.upperBound + 1) }
            }
        }
        func collect(_ node: RegexNode) {
            switch node {
            case .empty: break
            case .set(let set): insert(set)
            case .assertion(let assertion): conditions |= assertion.rawValue
            case .sequence(let nodes), .choice(let nodes): for node in nodes { collect(node) }
            case .repetition(let node, _, _): collect(node)
            }
        }
        collect(node)
        let asksLines = conditions & (RegexAssertion.beginLine.rawValue | RegexAssertion.endLine.rawValue) != 0
        let asksWords = conditions & (RegexAssertion.wordBoundary.rawValue | RegexAssertion.noWordBoundary.rawValue) != 0
        if asksLines { insert(.newline) }
        if asksWords { insert(.word) }
        if starts.count > 0x7fff { throw Self.tooLarge("\(starts.count) character classes, at most 32767 are allowed") }
        let boundaries = starts.sorted()
        self.boundaries = boundaries
        asciiClasses = (0..<128).map { (scalar: UInt32) in UInt16(Self.scalarClass(boundaries, scalar)) }
        contexts =
            boundaries.map { start in
                if asksLines, start == 0x0a { return .newline }
                if asksWords, ScalarSet.word.ranges.contains(where: { $0.contains(start) }) { return .word }
                return .other
            } + [.other]
        setWords = (boundaries.count + 63) / 64
        hasAssertions = conditions != 0
        var numbers: [ScalarSet: UInt16] = [:]
        var visits = 0
        entry = try emit(node, to: 0, &numbers, &visits)
    }

    private static func tooLarge(_ found: String) -> RegexError {
        RegexError(reason: "pattern too large", fragment: found)
    }

    // MARK: From nodes to states, from the end to the start

    private mutating func add(_ state: State) throws(RegexError) -> Int {
        if states.count == Self.maxStates { throw Self.tooLarge("more than \(Self.maxStates) states") }
        states.append(state)
        return states.count - 1
    }

    /// Adds what matches `node` and goes on at `next`; returns where it starts.
    private mutating func emit(_ node: RegexNode, to next: Int, _ numbers: inout [ScalarSet: UInt16], _ visits: inout Int)
        throws(RegexError) -> Int
    {
        // Repetitions of what needs no state would else run for ever: ((){1000}){1000}.
        visits += 1
        if visits > 16 * Self.maxStates { throw Self.tooLarge("more than \(16 * Self.maxStates) repeated parts") }
        switch node {
        case .empty:
            return next
        case .set(let set):
            return try emit(set, to: next, &numbers)
        case .assertion(let assertion):
            return try add(State(kind: .assertion, low: assertion.rawValue, next: UInt16(next)))
        case .sequence(let nodes):
            var start = next
            for node in nodes.reversed() { start = try emit(node, to: start, &numbers, &visits) }
            return start
        case .choice(let nodes):
            var start = try emit(nodes[nodes.count - 1], to: next, &numbers, &visits)
            for node in nodes.dropLast().reversed() {
                let branch = try emit(node, to: next, &numbers, &visits)
                start = try add(State(kind: .split, low: UInt16(start), next: UInt16(branch)))
            }
            return start
        case .repetition(let node, let minimum, let maximum):
            var start = next
            if let maximum {
                for _ in minimum..<max(minimum, maximum) {
                    let branch = try emit(node, to: start, &numbers, &visits)
                    start = try add(State(kind: .split, low: UInt16(next), next: UInt16(branch)))
                }
            } else {
                start = try add(State(kind: .split, low: UInt16(next)))
                states[start].next = UInt16(try emit(node, to: start, &numbers, &visits))
            }
            for _ in 0..<minimum { start = try emit(node, to: start, &numbers, &visits) }
            return start
        }
    }

    private mutating func emit(_ set: ScalarSet, to next: Int, _ numbers: inout [ScalarSet: UInt16]) throws(RegexError) -> Int {
        let classes = set.ranges.map { range in
            UInt16(Self.scalarClass(boundaries, range.lowerBound))...UInt16(Self.scalarClass(boundaries, range.upperBound))
        }
        // A set without members takes nothing: its range is empty.
        if classes.isEmpty { return try add(State(kind: .range, low: 1, high: 0, next: UInt16(next))) }
        if classes.count == 1 {
            return try add(State(kind: .range, low: classes[0].lowerBound, high: classes[0].upperBound, next: UInt16(next)))
        }
        if let number = numbers[set] { return try add(State(kind: .set, low: number, next: UInt16(next))) }
        var words = [UInt64](repeating: 0, count: setWords)
        for range in classes {
            for member in range { words[Int(member) / 64] |= 1 << (UInt64(member) % 64) }
        }
        if setBits.count + setWords > Self.maxSetWords { throw Self.tooLarge("more than \(Self.maxSetWords * 8) bytes of character sets") }
        let number = UInt16(setBits.count / setWords)
        setBits += words
        numbers[set] = number
        return try add(State(kind: .set, low: number, next: UInt16(next)))
    }

    // MARK: Classes

    private static func scalarClass(_ boundaries: [UInt32], _ scalar: UInt32) -> Int {
        var low = 0
        var high = boundaries.count
        while low + 1 < high {
            let middle = (low + high) / 2
            if boundaries[middle] <= scalar { low = middle } else { high = middle }
        }
        return low
    }

    /// The class of the scalar at `index`, which moves behind it.
    @inline(__always)
    func nextClass(_ text: Span<UInt8>, _ index: inout Int) -> Int {
        let byte = text[index]
        if byte < 0x80 {
            index &+= 1
            return Int(asciiClasses[Int(byte)])
        }
        return nextWideClass(text, &index)
    }

    /// What is not UTF-8 (RFC 3629 section 3) is of the last class, which no state takes.
    private func nextWideClass(_ text: Span<UInt8>, _ index: inout Int) -> Int {
        let lead = text[index]
        let length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0
        guard length > 0, index + length <= text.count else {
            index = text.count
            return boundaries.count
        }
        var scalar = UInt32(lead) & (0x7f >> UInt32(length))
        for offset in 1..<length {
            guard text[index + offset] & 0xc0 == 0x80 else {
                index = text.count
                return boundaries.count
            }
            scalar = scalar << 6 | UInt32(text[index + offset] & 0x3f)
        }
        let isShortest = length == 2 || scalar >= (length == 3 ? 0x800 : 0x10000)
        guard isShortest, Unicode.Scalar(scalar) != nil else {
            index = text.count
            return boundaries.count
        }
        index += length
        return Self.scalarClass(boundaries, scalar)
    }

    func context(of scalarClass: Int) -> Context {
        contexts[scalarClass]
    }

    private func conditions(between before: Context, and after: Context) -> UInt16 {
        var conditions: UInt16 = 0
        if before == .begin { conditions |= RegexAssertion.beginText.rawValue | RegexAssertion.beginLine.rawValue }
        if before == .newline { conditions |= RegexAssertion.beginLine.rawValue }
        if after == .end { conditions |= RegexAssertion.endText.rawValue | RegexAssertion.endLine.rawValue }
        if after == .newline { conditions |= RegexAssertion.endLine.rawValue }
        let isBoundary = (before == .word) != (after == .word)
        return conditions | (isBoundary ? RegexAssertion.wordBoundary.rawValue : RegexAssertion.noWordBoundary.rawValue)
    }

    // MARK: Sets of states

    /// Adds to `set` the state `start` and all that follow it without taking anything. An assertion that `conditions` does not meet stays
    /// in the set: the next scalar may decide. Returns how many states were visited, at most one visit each.
    @discardableResult
    func close(_ start: Int, conditions: UInt16, into set: inout MutableSpan<UInt64>, stack: inout MutableSpan<UInt16>) -> Int {
        guard Self.insert(start, into: &set) else { return 1 }
        var visits = 1
        var depth = 1
        stack[0] = UInt16(start)
        while depth > 0 {
            depth -= 1
            let state = states[Int(stack[depth])]
            switch state.kind {
            case .match, .range, .set:
                continue
            case .split:
                visits += 1
                if Self.insert(Int(state.low), into: &set) {
                    stack[depth] = state.low
                    depth += 1
                }
            case .assertion:
                if state.low & conditions == 0 { continue }
            }
            visits += 1
            if Self.insert(Int(state.next), into: &set) {
                stack[depth] = state.next
                depth += 1
            }
        }
        return visits
    }

    @inline(__always)
    private static func insert(_ state: Int, into set: inout MutableSpan<UInt64>) -> Bool {
        let bit: UInt64 = 1 << (UInt64(state) & 63)
        if set[state >> 6] & bit != 0 { return false }
        set[state >> 6] |= bit
        return true
    }

    /// Lets the assertions of `set` that hold between the two contexts pass.
    private func resolve(
        _ set: inout MutableSpan<UInt64>, between before: Context, and after: Context, stack: inout MutableSpan<UInt16>
    ) -> Int {
        guard hasAssertions else { return 0 }
        let conditions = conditions(between: before, and: after)
        var visits = 0
        for word in 0..<(states.count + 63) / 64 {
            var bits = set[word]
            while bits != 0 {
                let state = states[word << 6 | bits.trailingZeroBitCount]
                bits &= bits - 1
                visits += 1
                if state.kind == .assertion, state.low & conditions != 0 {
                    visits += close(Int(state.next), conditions: conditions, into: &set, stack: &stack)
                }
            }
        }
        return visits
    }

    /// The states after one more scalar. Returns the visits made, and whether any state is left.
    func step(
        _ set: inout MutableSpan<UInt64>, _ scalarClass: Int, after before: Context, into next: inout MutableSpan<UInt64>,
        stack: inout MutableSpan<UInt16>
    ) -> (visits: Int, isAlive: Bool) {
        var visits = resolve(&set, between: before, and: contexts[scalarClass], stack: &stack)
        if scalarClass == boundaries.count { return (visits, false) }
        var isAlive = false
        for word in 0..<(states.count + 63) / 64 {
            var bits = set[word]
            while bits != 0 {
                let state = states[word << 6 | bits.trailingZeroBitCount]
                bits &= bits - 1
                visits += 1
                let takes =
                    switch state.kind {
                    case .range: Int(state.low) <= scalarClass && scalarClass <= Int(state.high)
                    case .set: setBits[Int(state.low) * setWords + scalarClass >> 6] & (1 << (UInt64(scalarClass) & 63)) != 0
                    case .match, .split, .assertion: false
                    }
                if takes {
                    isAlive = true
                    visits += close(Int(state.next), conditions: 0, into: &next, stack: &stack)
                }
            }
        }
        return (visits, isAlive)
    }

    /// Whether the text may end in these states.
    func accepts(_ set: inout MutableSpan<UInt64>, after before: Context, stack: inout MutableSpan<UInt16>) -> Bool {
        _ = resolve(&set, between: before, and: .end, stack: &stack)
        return set[0] & 1 != 0
    }
}

/// Builds the deterministic automaton of a program, when it is small.
enum Determinizer {
    /// 64 KiB for one pattern.
    private static let maxEntries = 1 << 15
    private static let maxSteps = 2_000_000

    private struct Key: Hashable {
        var states: [UInt64]
        var context: RegexProgram.Context
    }

    /// The table of `LinearRegex.table`; empty where the automaton is too large for the pattern's bound or for what is left of `budget`.
    static func table(of program: RegexProgram, budget: inout LinearRegex.Budget) -> [UInt16] {
        let entries = min(maxEntries, budget.entries)
        let width = program.classCount + 1
        var steps = min(maxSteps, budget.steps)
        let before = steps
        defer { budget.steps -= before - steps }
        guard width * 2 <= entries else { return [] }
        var stack = [UInt16](repeating: 0, count: program.stateCount)
        var stackSpan = stack.mutableSpan
        let words = (program.stateCount + 63) / 64
        let dead = [UInt64](repeating: 0, count: words)

        var start = dead
        var startSpan = start.mutableSpan
        steps -= program.close(program.entry, conditions: 0, into: &startSpan, stack: &stackSpan)
        var keys = [Key(states: dead, context: .other), Key(states: start, context: .begin)]
        var rows = [keys[1]: 1]
        var table = [UInt16](repeating: 0, count: width)
        var number = 1
        while number < keys.count {
            let key = keys[number]
            number += 1
            table.append(contentsOf: repeatElement(0, count: width))
            if table.count > entries || steps < 0 { return [] }
            let row = table.count - width
            var last = key.states
            var lastSpan = last.mutableSpan
            table[row + width - 1] = program.accepts(&lastSpan, after: key.context, stack: &stackSpan) ? 1 : 0
            for scalarClass in 0..<program.classCount - 1 {
                var current = key.states
                var next = dead
                var currentSpan = current.mutableSpan
                var nextSpan = next.mutableSpan
                let (visits, isAlive) = program.step(&currentSpan, scalarClass, after: key.context, into: &nextSpan, stack: &stackSpan)
                steps -= visits
                if steps < 0 { return [] }
                if !isAlive { continue }
                let target = Key(states: next, context: program.context(of: scalarClass))
                let found = rows[target] ?? keys.count
                if found == keys.count {
                    keys.append(target)
                    rows[target] = found
                    if keys.count * width > entries { return [] }
                }
                table[row + scalarClass] = UInt16(found * width)
            }
        }
        budget.entries -= table.count
        return table
    }
}

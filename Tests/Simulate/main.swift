// Tries the simulation's laws with thousands of seeds, on all CPUs. In release: a debug build takes some thirty times as long.
//
//     simulate [--seeds N] [--first SEED] [--law WORDS] [--figures]
//
//     --seeds N     of the cheapest laws (default 2000); others get fewer
//     --first SEED  the first of them (default 0); with --seeds 1 one again
//     --law WORDS   only the laws whose sentence has these words in it
//     --figures     instead prints the table of docs/resilience.md, of each figure the worst
//
// A line for each law; the seeds that break one are named, the first ten with how. The exit code is 0 if none does.
import Glibc
import SimulatedMesh

struct Usage: Error {}

struct Options {
    var seeds = 2000
    var first: UInt64 = 0
    var words = ""
    var figures = false

    init(_ arguments: [String]) throws(Usage) {
        var rest = arguments[...]
        while let option = rest.popFirst() {
            switch (option, rest.first) {
            case ("--figures", _):
                figures = true
                continue
            case ("--seeds", let value?):
                guard let number = Int(value), number > 0 else { throw Usage() }
                seeds = number
            case ("--first", let value?):
                guard let number = UInt64(value) else { throw Usage() }
                first = number
            case ("--law", let value?): words = value
            default: throw Usage()
            }
            rest.removeFirst()
        }
    }
}

guard let options = try? Options(Array(CommandLine.arguments.dropFirst())) else {
    print("usage: simulate [--seeds N] [--first SEED] [--law WORDS] [--figures]")
    exit(2)
}
if options.figures {
    let seeds = (0..<UInt64(options.seeds)).map { options.first + $0 }
    for line in FigureTable.lines(seeds: seeds) { print(line) }
    exit(0)
}
let laws = Law.all.filter { options.words.isEmpty || $0.sentence.contains(options.words) }
if laws.isEmpty {
    print("no law has \"\(options.words)\" in it")
    exit(2)
}
var isBroken = false
let clock = ContinuousClock()
for law in laws {
    let count = UInt64(max(1, options.seeds / law.cost))
    let start = clock.now
    let found = await Breach.all(of: law, seeds: options.first..<options.first + count)
    let tenths = (clock.now - start) / .milliseconds(100)
    print("\(found.isEmpty ? "holds" : "BROKEN"), \(count) seeds, \((tenths * 10).rounded() / 100) s: \(law.sentence)")
    for breach in found.prefix(10) { print("  seed \(breach.seed): \(breach.findings.joined(separator: "; "))") }
    if found.count > 10 { print("  and \(found.count - 10) more seeds") }
    isBroken = isBroken || !found.isEmpty
}
exit(isBroken ? 1 : 0)

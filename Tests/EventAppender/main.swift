// Appends batches to a log until it is killed, and says after each what was acknowledged. For Tests/EventStoreTests/CrashTests.swift.
import EventStore
import Foundation
import Glibc

guard CommandLine.arguments.count == 3, let seed = UInt64(CommandLine.arguments[2]) else {
    print("usage: event-appender DIRECTORY SEED")
    exit(2)
}

do {
    let log = try SQLiteEventLog(directory: CommandLine.arguments[1])
    var state = seed | 1
    func draw(_ bound: UInt64) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % bound)
    }
    while true {
        // One to three batches together, of one to four events, some of them longer than a page of the file.
        let batches = (0...draw(3)).map { _ in
            EventBatch(
                events: (0...draw(4)).map { _ in
                    EventDraft(kind: "test", payload: Data(repeating: UInt8(draw(256)), count: draw(8) == 0 ? draw(20_000) : draw(300)))
                }, actor: "appender", time: UnixTime(milliseconds: Int64(draw(1000))))
        }
        var text = ""
        for result in log.append(batches) {
            for event in try result.get() { text += "\(event.sequence) \(event.hash)\n" }
        }
        // Not by print: what was said must not wait in a buffer when the end comes.
        let bytes = Array(text.utf8)
        guard unsafe write(STDOUT_FILENO, bytes, bytes.count) == bytes.count else { exit(1) }
        if draw(20) == 0 {
            let end = log.last!.sequence
            try log.save([ProjectionSnapshot(name: "test", version: 1, sequence: end, content: Data("behind \(end)".utf8))])
        }
    }
} catch {
    print(error)
    exit(1)
}

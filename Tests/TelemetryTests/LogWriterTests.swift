import Base
import Glibc
import Synchronization
import Testing

@testable import Telemetry

/// A directory that is gone when the test ends.
private final class TemporaryDirectory {
    let path: String

    init() {
        var template = Array("/tmp/outrigger-log-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { fatalError("no temporary directory") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        for name in ["/a", "/b", "/a.1", "/sub/a", "/sub", ""] { _ = unsafe remove(path + name) }
    }
}

private func contents(_ path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    return String(decoding: readAvailable(descriptor), as: UTF8.self)
}

private func readAvailable(_ descriptor: CInt) -> [UInt8] {
    var result: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = unsafe read(descriptor, &chunk, chunk.count)
        guard count > 0 else { return result }
        result += chunk[..<count]
    }
}

private func buffer(_ text: String) -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.append(text)
    return buffer
}

extension LogFile {
    fileprivate func submit(_ text: String) {
        var lines = buffer(text)
        submit(&lines)
    }
}

extension LogWriter {
    /// Bytes, dropped lines and errors of a file; nil where the writer does not know it.
    fileprivate func counts(_ path: String) -> [Double]? {
        var samples = ScrapeSamples()
        addSamples(to: &samples)
        let counts = [ScrapeMetric.logBytesTotal, .logDroppedLinesTotal, .logWriteErrorsTotal].compactMap { samples[$0][[path]] }
        return counts.isEmpty ? nil : counts
    }
}

@Suite(.timeLimit(.minutes(1))) struct LogWriterTests {
    private let directory = TemporaryDirectory()
    /// Long enough for a loaded machine; no test waits for it unless something is broken.
    private let patience = Duration.seconds(30)

    @Test("a path named twice is one file: lines stay whole and in order, and stop writes all of them")
    func oneFile() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1))
        let path = directory.path + "/a"
        let one = writer.file(path)
        let two = writer.file(path)
        var expected = ""
        for index in 0..<1000 {
            let line = "line \(index) \(String(repeating: "x", count: index % 50))\n"
            expected += line
            (index % 3 == 0 ? one : two).submit(line)
        }
        #expect(writer.stop(within: patience))
        #expect(contents(path) == expected)
        #expect(writer.counts(path) == [Double(expected.utf8.count), 0, 0])
    }

    @Test("a submitted buffer comes back empty, and an empty one is nothing")
    func buffersComeBack() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1))
        let file = writer.file(directory.path + "/a")
        var lines = buffer("1\n")
        file.submit(&lines)
        #expect((lines.isEmpty) as Bool)
        file.submit(&lines)
        lines.append("2\n")
        file.submit(&lines)
        #expect((lines.isEmpty) as Bool)
        #expect(writer.flush(within: patience))
        #expect(contents(directory.path + "/a") == "1\n2\n")
        writer.stop(within: patience)
    }

    @Test("after a rename, reopen sends what comes later to a new file")
    func reopen() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1))
        let path = directory.path + "/a"
        let file = writer.file(path)
        file.submit("old\n")
        #expect(writer.flush(within: patience))
        _ = unsafe rename(path, path + ".1")
        file.submit("still old\n")
        #expect(writer.flush(within: patience))
        writer.reopen()
        #expect(writer.flush(within: patience))
        #expect(contents(path) == "")
        file.submit("new\n")
        #expect(writer.stop(within: patience))
        #expect(contents(path + ".1") == "old\nstill old\n")
        #expect(contents(path) == "new\n")
    }

    @Test("a pipe that nobody reads costs lines, not time: what is queued is bounded, the rest dropped and counted")
    func stalledPipe() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1), gathering: .zero)
        let path = directory.path + "/a"
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let reader = unsafe open(path, O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        let stalled = writer.file(path)
        let other = writer.file(directory.path + "/b")
        let line = String(repeating: "x", count: 1023) + "\n"
        for _ in 0..<4096 { stalled.submit(line) }
        #expect(stalled.queue.state.withLock { $0.pending.count + $0.inFlight } <= LogQueue.limit)
        #expect(!writer.flush(within: .zero))
        // Other files go on.
        other.submit("fine\n")
        while contents(directory.path + "/b") != "fine\n" { sched_yield() }
        // What was not dropped arrives once somebody reads.
        var received = 0
        while writer.counts(path)?[1] != Double(4096 - received / 1024) { received += readAvailable(reader).count }
        #expect(received % 1024 == 0)
        #expect(received >= LogQueue.limit - 1024)
        #expect(received < 4096 * 1024)
        #expect(writer.stop(within: patience))
    }

    @Test("a full disk is counted and told once, with path and reason; what is lost at the end is counted too")
    func fullDisk() {
        var ends: [CInt] = [-1, -1]
        #expect(unsafe pipe(&ends) == 0)
        let writer = LogWriter(log: ProcessLog(descriptor: ends[1]), gathering: .zero)
        let file = writer.file("/dev/full")
        file.submit("one\ntwo\n")
        while writer.counts("/dev/full")?[2] == 0 { sched_yield() }
        #expect(!writer.stop(within: patience))
        close(ends[1])
        let report = String(decoding: readAvailable(ends[0]), as: UTF8.self)
        close(ends[0])
        #expect(report.contains("[error][log] cannot write a log file"))
        #expect(report.contains(#"path=/dev/full error="No space left on device""#))
        #expect(report.split(separator: "\n").count == 1)
        #expect(writer.counts("/dev/full")?[0] == 0)
        #expect(writer.counts("/dev/full")?[1] == 2)
    }

    @Test("a file that cannot be opened keeps its lines, and gets them when it can")
    func recovers() {
        var ends: [CInt] = [-1, -1]
        #expect(unsafe pipe(&ends) == 0)
        let writer = LogWriter(log: ProcessLog(descriptor: ends[1]), gathering: .zero)
        let path = directory.path + "/sub/a"
        let file = writer.file(path)
        file.submit("early\n")
        while writer.counts(path)?[2] == 0 { sched_yield() }
        _ = unsafe mkdir(directory.path + "/sub", 0o700)
        writer.reopen()  // Does not wait for the second to pass.
        #expect(writer.flush(within: patience))
        #expect(contents(path) == "early\n")
        #expect(writer.stop(within: patience))
        close(ends[1])
        let report = String(decoding: readAvailable(ends[0]), as: UTF8.self).split(separator: "\n")
        close(ends[0])
        #expect(report.count == 2)
        #expect(report.first?.contains(#"cannot open a log file"#) == true)
        #expect(report.first?.contains(#"error="No such file or directory""#) == true)
        #expect(report.last?.contains("log file is written again") == true)
    }

    @Test("a reader that leaves a pipe is an error, not a signal")
    func brokenPipe() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1), gathering: .zero)
        let path = directory.path + "/a"
        #expect(unsafe mkfifo(path, 0o600) == 0)
        let reader = unsafe open(path, O_RDONLY | O_NONBLOCK)
        let file = writer.file(path)
        file.submit("1\n")
        #expect(writer.flush(within: patience))
        close(reader)
        file.submit("2\n")
        while writer.counts(path)?[2] == 0 { sched_yield() }
        #expect(!writer.stop(within: patience))
        #expect(writer.counts(path)?[1] == 1)
    }

    @Test("after stop lines are dropped and counted, and a second stop says what the first did")
    func afterStop() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1))
        let path = directory.path + "/a"
        let file = writer.file(path)
        file.submit("1\n")
        #expect(writer.stop(within: patience))
        file.submit("2\n3\n")
        #expect(writer.counts(path)?[1] == 2)
        #expect(contents(path) == "1\n")
        #expect(writer.stop(within: .zero))
        #expect(!writer.flush(within: .zero))
    }

    @Test("a writer without files has nothing to stop")
    func noFiles() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1))
        #expect(writer.flush(within: .zero))
        #expect(writer.stop(within: .zero))
    }

    @Test("a file that nobody holds is closed and forgotten, and can be had again")
    func forgotten() {
        let writer = LogWriter(log: ProcessLog(descriptor: -1))
        let path = directory.path + "/a"
        do {
            let file = writer.file(path)
            file.submit("1\n")
        }
        while writer.counts(path) != nil { sched_yield() }
        #expect(contents(path) == "1\n")
        let file = writer.file(path)
        file.submit("2\n")
        #expect(writer.stop(within: patience))
        #expect(contents(path) == "1\n2\n")
    }
}

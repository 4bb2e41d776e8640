import Base
import ProxyConfig
import Reactor
import Resilience
import Synchronization
import Telemetry

/// Keeps the process from running out of descriptors and memory, and from serving with a worker that is stuck: measures once a second
/// (ten times while it matters) on the supervisor's thread, and tells the workers what to give up.
final class OverloadManager {
    /// What others see of it.
    struct Report: Sendable {
        var level = OverloadLevel.normal
        /// When it came to this level.
        var since: Instant?
        var descriptors = OverloadGauge()
        var memory = OverloadGauge()
        var watchdogMisses: UInt64 = 0
        var watchdogMegaMisses: UInt64 = 0
        /// Times that a level above normal began.
        var escalations: UInt64 = 0
    }

    /// Read by whoever scrapes.
    private final class Board: Sendable {
        let report = Mutex(Report())
    }

    private let loop: EventLoop
    private let workers: [Mailbox<WorkerMessage>]
    private let heartbeats: [Heartbeat]
    private let log: ProcessLog
    private let descriptorLimit = Int(Descriptors.limit)
    private let processMemory = ProcessMemory()
    /// Of the command line: goes before the configuration's.
    private let maxMemoryBytes: Int?
    private var settings = OverloadSettings()
    private var descriptors = OverloadGauge()
    private var memory = OverloadGauge()
    private var watchdog: Watchdog
    private var lastLook = Instant.never
    private var lastWatch = Instant.never
    private var lastTrim: Instant?
    private var order = OverloadOrder()
    private var timer: LoopTimer!
    private let board = Board()

    private static let interval = Nanoseconds.seconds(1)
    private static let busyInterval = Nanoseconds.milliseconds(100)
    /// From here on it looks more often: what a second brings must not lead past all levels.
    private static let watchfulPercent = 60
    /// The allocator gives back what is free at most so often: threads that allocate wait meanwhile.
    private static let trimInterval = Nanoseconds.seconds(10)
    /// A process that could not go on, for the supervisor above: EX_SOFTWARE of sysexits.h.
    static let stuckStatus: Int32 = 70

    init(
        loop: EventLoop, workers: [Mailbox<WorkerMessage>], heartbeats: [Heartbeat], registry: StatsRegistry, log: ProcessLog,
        maxMemoryBytes: Int?
    ) {
        self.loop = loop
        self.workers = workers
        self.heartbeats = heartbeats
        self.log = log
        self.maxMemoryBytes = maxMemoryBytes
        watchdog = Watchdog(workers: workers.count, endTime: Nanoseconds(OverloadSettings.defaultStuckTime))
        timer = LoopTimer { [unowned self] now in look(now) }
        let board = board
        registry.addProvider { samples in board.report.withLock { $0 }.addSamples(to: &samples) }
    }

    var report: Report { board.report.withLock { $0 } }

    /// Once the workers run.
    func start() {
        Heartbeat.prepareStacks()
        lastLook = loop.now
        lastWatch = loop.now
        look(loop.now)
    }

    /// A new configuration runs.
    func follow(_ settings: OverloadSettings) {
        self.settings = settings
        watchdog.endTime = settings.stuckTime > .zero ? Nanoseconds(settings.stuckTime) : nil
    }

    // MARK: Looking

    private func look(_ now: Instant) {
        let before = max(descriptors.level, memory.level)
        let capacity = DescriptorReserve.capacity(limit: descriptorLimit)
        descriptors.read(used: Int(loop.nextDescriptor), limit: capacity)
        memory.read(used: processMemory.used, limit: maxMemoryBytes ?? settings.maxMemoryBytes ?? processMemory.limit)
        if memory.level >= .trim, trimHeap(now) { memory.read(used: processMemory.used, limit: memory.limit) }
        let level = max(descriptors.level, memory.level)
        if level != before { tell(level, before) }
        send(level, capacity)
        watch(now)
        publish(level, before, now)
        let isWatchful = level > .normal || max(descriptors.percent, memory.percent) >= Self.watchfulPercent
        loop.setDeadline(timer, now + (isWatchful ? Self.busyInterval : Self.interval))
    }

    /// What is free in the heap is not in need: the system gets it back before anybody is refused for it.
    private func trimHeap(_ now: Instant) -> Bool {
        if let lastTrim, now - lastTrim < Self.trimInterval { return false }
        lastTrim = now
        Heap.trim()
        return true
    }

    private func send(_ level: OverloadLevel, _ capacity: Int) {
        var next = OverloadOrder()
        next.level = level
        next.memoryLevel = memory.level
        next.descriptorLine = CInt(clamping: descriptors.line(of: .trim))
        next.descriptorEnd = CInt(clamping: capacity)
        next.minBodyRate = settings.minBodyRate
        let share = max(1, workers.count)
        if descriptors.level >= .trim { next.descriptorsToFree = max(1, descriptors.excess(over: .trim) / share) }
        // Back to where requests are refused, not further: each of these streams is somebody's.
        if memory.level >= .reset { next.bytesToReset = max(1, memory.excess(over: .refuse) / share) }
        guard next != order || level > .normal else { return }
        order = next
        for worker in workers { worker.post(.overload(next)) }
    }

    private func tell(_ level: OverloadLevel, _ before: OverloadLevel) {
        var facts = "\(descriptors.used) of \(descriptors.limit ?? 0) descriptors"
        if let limit = memory.limit { facts += ", \(memory.used >> 20) of \(limit >> 20) MiB of memory" }
        if level > before {
            log.warning("overload", "\(level.words): \(facts)")
        } else {
            log.info("overload", "eases; \(level.words): \(facts)")
        }
    }

    private func publish(_ level: OverloadLevel, _ before: OverloadLevel, _ now: Instant) {
        board.report.withLock { report in
            if report.level != level || report.since == nil { report.since = now }
            if level > before { report.escalations += 1 }
            report.level = level
            report.descriptors = descriptors
            report.memory = memory
        }
    }

    // MARK: Stuck workers

    private func watch(_ now: Instant) {
        let elapsed = now - lastWatch
        lastWatch = now
        for finding in watchdog.look(at: heartbeats.map(\.turnBegan), now: now, elapsed: elapsed) {
            switch finding {
            case .missed: board.report.withLock { $0.watchdogMisses += 1 }
            case .stuck(let worker, let time):
                board.report.withLock { $0.watchdogMegaMisses += 1 }
                tellStuck(worker, time)
            case .recovered(let worker, let time):
                log.warning("watchdog", "worker \(worker) goes on after \(time.milliseconds) ms")
            case .mustEnd(let worker, let time):
                log.error("watchdog", "worker \(worker) has been stuck for \(time.milliseconds) ms; ending with status \(Self.stuckStatus)")
                endProcessNow(status: Self.stuckStatus)
            }
        }
    }

    private func tellStuck(_ worker: Int, _ time: Nanoseconds) {
        let heartbeat = heartbeats[worker]
        let place = "busy with \(heartbeat.activity), thread \(heartbeat.kernelState)"
        log.error("watchdog", "worker \(worker) has not returned to its loop for \(time.milliseconds) ms: \(place); its stack:")
        if !heartbeat.writeStack() { log.error("watchdog", "worker \(worker) takes no signals: no stack") }
    }
}

extension OverloadLevel {
    /// What is given up.
    var words: String {
        switch self {
        case .normal: "no overload"
        case .trim: "closing idle connections"
        case .endKeepAlive: "ending connections with their responses"
        case .refuse: "refusing requests"
        case .reset: "resetting the streams that hold the most bytes"
        }
    }

    /// As metrics and pages name it.
    var name: String {
        switch self {
        case .normal: "normal"
        case .trim: "trim"
        case .endKeepAlive: "end_keep_alive"
        case .refuse: "refuse"
        case .reset: "reset"
        }
    }
}

extension OverloadManager.Report {
    func addSamples(to samples: inout ScrapeSamples) {
        samples.add(.overloadLevel, Int(level.rawValue))
        samples.add(.overloadEscalations, escalations)
        samples.add(.watchdogMiss, watchdogMisses)
        samples.add(.watchdogMegaMiss, watchdogMegaMisses)
        for (name, gauge) in [("descriptors", descriptors), ("memory", memory)] {
            samples.add(.overloadUsed, gauge.used, labels: [name])
            guard let limit = gauge.limit else { continue }
            samples.add(.overloadLimit, limit, labels: [name])
            samples.add(.overloadPressure, gauge.percent, labels: [name])
        }
    }
}

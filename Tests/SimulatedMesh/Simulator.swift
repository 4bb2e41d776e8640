import Balancing
import Base
import ProxyConfig
import Resilience

/// A discrete-event simulation of callers with sidecars and of hosts, in which the sidecars' decisions are made by the real code. Equal
/// seeds give equal runs.
struct Simulator {
    private enum Event {
        case arrival
        case attempt(request: Int)
        case answer(attempt: Int, status: UInt16)
        case connectFailed(attempt: Int)
        case perTryTimeout(attempt: Int)
        case deadline(request: Int)
        case queueExpiry(caller: Int, worker: Int)
        case sweep(caller: Int)
        case connectionProbe(caller: Int)
        case serverFree(host: Int)
        case trouble
    }

    private struct Scheduled {
        var at: Int64
        var number: Int
        var event: Event
    }

    private struct Queue {
        private var entries: [Scheduled] = []
        private var next = 0

        var first: Scheduled? { next < entries.count ? entries[next] : nil }
        mutating func append(_ entry: Scheduled) { entries.append(entry) }
        mutating func removeFirst() { next += 1 }
    }

    private struct Request {
        var caller: Int
        var worker: Int
        var start: Int64
        var deadline: Int64
        var isSafe: Bool
        var retries = RetryState()
        var tried = TriedEndpoints()
        var isOver = false
        var holdsLimiter = false
        var retryIsCharged = false
        var admission = CircuitBreaker.Admission.pass
        var place: AdmissionQueue<Int>.Place?
        var lastAttempt: Int64 = 0
    }

    private struct Attempt {
        var request: Int
        var host: Int
        var start: Int64
        var ticket: ProbeTicket
        var isOver = false
    }

    private struct Worker {
        var table: EndpointTable
        var budget: RetryBudget
        var limiter: ConcurrencyLimiter?
        var queue: AdmissionQueue<Int>
        var random: SeededRandom
        var epoch: UInt64 = .max
        var due = Instant.never
        var active = 0
    }

    private struct Caller {
        var detector: OutlierDetector
        var breaker: CircuitBreaker?
        var events: OutlierEventLog
        var health: [HostHealth]
        var workers: [Worker]
    }

    private struct Host {
        var busy = 0
        /// Attempts that wait, with the time each needs.
        var queue: [Int] = []
        var served = 0
        var underWay: Set<Int> = []
    }

    private let scenario: Scenario
    private var random: SeededRandom
    private var heap: [Scheduled] = []
    /// What comes after a time that is always the same stays in order by itself. Most of it is for nothing: the call is over by then.
    private var perTryTimeouts = Queue()
    private var deadlines = Queue()
    private var queueExpiries = Queue()
    private var scheduled = 0
    private var now: Int64 = 0
    private var requests: [Request] = []
    private var attempts: [Attempt] = []
    private var callers: [Caller] = []
    private var hosts: [Host]
    private var outcome = Outcome()

    static func run(_ scenario: Scenario, seed: UInt64) -> Outcome {
        var simulator = Simulator(scenario, seed: seed)
        return simulator.run()
    }

    private init(_ scenario: Scenario, seed: UInt64) {
        self.scenario = scenario
        random = SeededRandom(seed: seed)
        hosts = Array(repeating: Host(), count: scenario.hosts)
        callers = (0..<scenario.callers).map { makeCaller($0, seed: seed &* 1009 &+ UInt64($0)) }
        let calls = Int(scenario.seconds * (scenario.rates.map(\.perSecond).max() ?? 0))
        requests.reserveCapacity(calls)
        attempts.reserveCapacity(calls)
        outcome.calls.reserveCapacity(calls)
        outcome.goodAnswers.reserveCapacity(calls)
    }

    private func makeCaller(_ number: Int, seed: UInt64) -> Caller {
        let policy = scenario.policy
        let start = Instant(nanoseconds: 0)
        let events = OutlierEventLog()
        let detector = OutlierDetector(
            cluster: "simulated", configuration: scenario.appMesh, events: events, now: start, seed: seed, grpcErrors: .native)
        let addresses = (0..<scenario.hosts).map { SocketAddress(.v4(0x0a00_0001 + UInt32($0)), 80) }
        let health = detector.setHosts(addresses, now: start)
        if scenario.appMesh == nil, scenario.usesBreakers { detector.update(policy: policy.endpoint, now: start) }
        let zone = scenario.zones > 1 ? BalancingRules.ZonePreference(local: Locality(zone: "\(number % scenario.zones)")) : nil
        let rules = BalancingRules(
            policy: scenario.balancing ?? .peakEWMA(halfLife: policy.latencyHalfLife), zone: zone, ramp: policy.endpoint.breaker.ramp)
        let workers = (0..<scenario.workers).map { index in
            var random = SeededRandom(seed: seed &* 31 &+ UInt64(index))
            var table = EndpointTable(rules: rules)
            _ = table.setMembers(
                addresses.enumerated().map { EndpointTable.Member(address: $1, locality: Locality(zone: "\($0 % scenario.zones)")) },
                random: &random)
            return Worker(
                table: table, budget: RetryBudget(now: start), limiter: policy.limiter.map { ConcurrencyLimiter(rules: $0, now: start) },
                queue: AdmissionQueue(policy.queue),
                random: random)
        }
        return Caller(
            detector: detector, breaker: scenario.service.map { CircuitBreaker(name: "simulated", policy: $0) }, events: events,
            health: health, workers: workers)
    }

    // MARK: Time

    private mutating func run() -> Outcome {
        schedule(.arrival, after: 1)
        for trouble in scenario.troubles {
            schedule(.trouble, at: Self.nanoseconds(trouble.from))
            schedule(.trouble, at: Self.nanoseconds(trouble.to))
        }
        for caller in callers.indices {
            if callers[caller].detector.nextSweep != .never {
                schedule(.sweep(caller: caller), at: callers[caller].detector.nextSweep.nanoseconds)
            }
            if scenario.usesBreakers, scenario.appMesh == nil, let interval = scenario.policy.endpoint.connectionProbeInterval {
                schedule(.connectionProbe(caller: caller), after: Nanoseconds(interval).count)
            }
        }
        while let next = popNext() {
            now = next.at
            handle(next.event)
        }
        return outcome
    }

    private static func nanoseconds(_ seconds: Double) -> Int64 { Int64(seconds * 1e9) }
    private var seconds: Double { Double(now) / 1e9 }
    private var instant: Instant { Instant(nanoseconds: now) }
    private var isRunning: Bool { seconds < scenario.seconds }

    private mutating func schedule(_ event: Event, after nanoseconds: Int64) { schedule(event, at: now + max(nanoseconds, 0)) }

    private mutating func entry(_ event: Event, after nanoseconds: Int64) -> Scheduled {
        scheduled += 1
        return Scheduled(at: now + nanoseconds, number: scheduled, event: event)
    }

    private mutating func schedule(_ event: Event, at time: Int64) {
        scheduled += 1
        heap.append(Scheduled(at: time, number: scheduled, event: event))
        var child = heap.count - 1
        while child > 0, isBefore(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        (heap[left].at, heap[left].number) < (heap[right].at, heap[right].number)
    }

    private mutating func popNext() -> Scheduled? {
        let least = earlier(earlier(heap.first, perTryTimeouts.first), earlier(deadlines.first, queueExpiries.first))
        switch least?.event {
        case nil: return nil
        case .perTryTimeout: perTryTimeouts.removeFirst()
        case .deadline: deadlines.removeFirst()
        case .queueExpiry: queueExpiries.removeFirst()
        default: popHeap()
        }
        return least
    }

    private func earlier(_ one: Scheduled?, _ other: Scheduled?) -> Scheduled? {
        guard let one, let other else { return one ?? other }
        return (one.at, one.number) < (other.at, other.number) ? one : other
    }

    private mutating func popHeap() {
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in (2 * parent + 1)..<(2 * parent + 3) where child < heap.count && isBefore(child, least) { least = child }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .arrival: arrive()
        case .attempt(let request): attempt(request)
        case .answer(let attempt, let status): answer(attempt, status: status)
        case .connectFailed(let attempt): end(attempt, .connectFailure, status: 0, latency: nil)
        case .perTryTimeout(let attempt): perTryTimeout(attempt)
        case .deadline(let request): deadline(request)
        case .queueExpiry(let caller, let worker): expireQueue(caller, worker)
        case .sweep(let caller): sweep(caller)
        case .connectionProbe(let caller): probeConnections(caller)
        case .serverFree(let host): serverFree(host)
        case .trouble: troubleChanged()
        }
    }

    // MARK: Calls

    private mutating func arrive() {
        guard isRunning else { return }
        let rate = scenario.rates.last { $0.from <= seconds }?.perSecond ?? 0
        // Open loop: steady, but not in step with anything.
        let gap = 1e9 / rate * (0.5 + Double(random.below(1000)) / 1000)
        schedule(.arrival, after: Int64(gap))
        let caller = random.below(scenario.callers)
        let worker = random.below(scenario.workers)
        let isSafe = Double(random.below(1_000_000)) / 1e6 >= scenario.unsafeShare
        let request = requests.count
        requests.append(
            Request(caller: caller, worker: worker, start: now, deadline: now + scenario.timeout.count, isSafe: isSafe))
        callers[caller].workers[worker].active += 1
        let active = callers[caller].workers[worker].active
        callers[caller].workers[worker].budget.requestStarted(requests: active)
        if let breaker = callers[caller].breaker {
            let now = instant
            requests[request].admission = breaker.admit(mayProbe: isSafe, now: now, random: &callers[caller].workers[worker].random)
            if case .refuse = requests[request].admission { return finish(request, isOK: false, isRefused: true) }
        }
        deadlines.append(entry(.deadline(request: request), after: scenario.timeout.count))
        guard callers[caller].workers[worker].limiter != nil else { return attempt(request) }
        if callers[caller].workers[worker].limiter?.begin() == true {
            requests[request].holdsLimiter = true
            attempt(request)
        } else if let place = callers[caller].workers[worker].queue.enqueue(request, now: instant) {
            requests[request].place = place
            let wait = Nanoseconds(scenario.policy.queue.longestWait).count
            queueExpiries.append(entry(.queueExpiry(caller: caller, worker: worker), after: wait))
        } else {
            finish(request, isOK: false, isRefused: true)
        }
    }

    private mutating func attempt(_ number: Int) {
        let request = requests[number]
        guard !request.isOver else { return }
        let (caller, worker) = (request.caller, request.worker)
        refreshStandings(caller, worker)
        guard let (host, ticket) = pick(caller, worker, request) else { return finish(number, isOK: false, isRefused: true) }
        outcome.attempts += 1
        requests[number].tried.insert(host)
        requests[number].lastAttempt = now
        callers[caller].workers[worker].table.started(host, now: instant)
        let attempt = attempts.count
        attempts.append(Attempt(request: number, host: host, start: now, ticket: ticket))
        if let perTry = scenario.policy.retry.perTryTimeout, scenario.usesRetries {
            perTryTimeouts.append(entry(.perTryTimeout(attempt: attempt), after: perTry.count))
        }
        reach(host, attempt)
    }

    private mutating func pick(_ caller: Int, _ worker: Int, _ request: Request) -> (Int, ProbeTicket)? {
        // Only a first attempt may be a probe: a retry has to succeed.
        if request.isSafe, request.tried.isEmpty, let host = callers[caller].workers[worker].table.pickProbe(),
            let ticket = callers[caller].detector.probe(callers[caller].health[host], now: instant)
        {
            return (host, ticket)
        }
        var random = callers[caller].workers[worker].random
        defer { callers[caller].workers[worker].random = random }
        let pick =
            request.tried.isEmpty
            ? callers[caller].workers[worker].table.pick(hash: 0, now: instant, random: &random)
            : callers[caller].workers[worker].table.pick(excluding: request.tried, hash: 0, now: instant, random: &random)
        if pick?.isPanic == true { outcome.panics += 1 }
        return pick.map { ($0.index, .none) }
    }

    /// What a worker does when the epoch or the time says that an endpoint's standing changed.
    private mutating func refreshStandings(_ caller: Int, _ worker: Int) {
        let detector = callers[caller].detector
        guard callers[caller].workers[worker].epoch != detector.epoch || instant >= callers[caller].workers[worker].due else { return }
        let health = callers[caller].health
        for host in health { detector.advance(host, now: instant) }
        callers[caller].workers[worker].epoch = detector.epoch
        callers[caller].workers[worker].due = health.map { detector.nextChange(of: $0) }.filter { $0 > instant }.min() ?? .never
        var random = callers[caller].workers[worker].random
        callers[caller].workers[worker].table.updateStandings(now: instant, random: &random) { index in
            switch health[index].state.phase {
            case .closed, .disabled, .observing: .available
            case .ramping: .ramping(since: health[index].state.instant)
            case .halfOpen: .probing
            case .open, .forcedOpen, .departed: .unavailable
            }
        }
        callers[caller].workers[worker].random = random
        tellEvents(caller)
    }

    private mutating func tellEvents(_ caller: Int) {
        for event in callers[caller].events.drain() {
            guard let address = event.host?.address, let host = callers[caller].health.firstIndex(where: { $0.address == address }) else {
                continue
            }
            let at = Double(event.instant.nanoseconds) / 1e9
            if event.action == .eject { outcome.ejections.append((at, host, event.reason)) }
            if event.action == .uneject { outcome.returns.append((at, host)) }
        }
    }

    private mutating func answer(_ number: Int, status: UInt16) {
        hosts[attempts[number].host].underWay.remove(number)
        guard !attempts[number].isOver else { return }
        let latency = Nanoseconds(count: now - attempts[number].start)
        if status == 200 { outcome.goodAnswers.append((seconds, attempts[number].host)) }
        end(number, AttemptOutcome(status: status), status: status, latency: status == 200 ? latency : nil)
    }

    private mutating func perTryTimeout(_ number: Int) {
        guard !attempts[number].isOver, let perTry = scenario.policy.retry.perTryTimeout else { return }
        let request = requests[attempts[number].request]
        let (slow, available) = callers[request.caller].workers[request.worker].table.slowCount(
            above: Nanoseconds(count: perTry.count / 2), now: instant)
        guard Deadlines.perTryTimeoutHolds(slow: slow, available: available) else { return }
        end(number, .timeout, status: 0, latency: Nanoseconds(count: now - attempts[number].start))
    }

    private mutating func deadline(_ number: Int) {
        guard !requests[number].isOver else { return }
        if let attempt = attempts.lastIndex(where: { $0.request == number && !$0.isOver }) {
            close(attempt, .timeout, latency: Nanoseconds(count: now - attempts[attempt].start))
        }
        finish(number, isOK: false, isRefused: false)
    }

    /// The attempt is over for the caller: balancing, breakers, and the question of a retry.
    private mutating func end(_ number: Int, _ result: AttemptOutcome, status: UInt16, latency: Nanoseconds?) {
        guard !attempts[number].isOver else { return }
        close(number, result, latency: latency)
        let index = attempts[number].request
        guard !requests[index].isOver else { return }
        if result == .ok { return finish(index, isOK: true, isRefused: false) }
        guard scenario.usesRetries else { return finish(index, isOK: false, isRefused: false) }
        let (caller, worker) = (requests[index].caller, requests[index].worker)
        let active = callers[caller].workers[worker].active
        let traits = RetryState.Request(
            isReplayable: true, isIdempotent: requests[index].isSafe, hasOthers: requests[index].tried.count < scenario.hosts)
        endRetry(index)
        var random = callers[caller].workers[worker].random
        let deadline = Instant(nanoseconds: requests[index].deadline)
        let decision = requests[index].retries.decide(
            after: result, status: status, request: traits, rules: scenario.policy.retry, budget: &callers[caller].workers[worker].budget,
            requests: active, deadline: deadline, now: instant, random: &random)
        callers[caller].workers[worker].random = random
        switch decision {
        case .retry(let delay):
            requests[index].retryIsCharged = true
            if delay == .zero { attempt(index) } else { schedule(.attempt(request: index), after: delay.count) }
        case .stop: finish(index, isOK: false, isRefused: false)
        }
    }

    private mutating func close(_ number: Int, _ result: AttemptOutcome, latency: Nanoseconds?) {
        attempts[number].isOver = true
        let attempt = attempts[number]
        let request = requests[attempt.request]
        callers[request.caller].workers[request.worker].table.finished(
            attempt.host, started: Instant(nanoseconds: attempt.start), latency: latency, now: instant)
        callers[request.caller].detector.record(
            result, on: callers[request.caller].health[attempt.host], elapsed: Nanoseconds(count: now - attempt.start),
            ticket: attempt.ticket, now: instant)
        tellEvents(request.caller)
    }

    private mutating func endRetry(_ number: Int) {
        guard requests[number].retryIsCharged else { return }
        requests[number].retryIsCharged = false
        callers[requests[number].caller].workers[requests[number].worker].budget.retryEnded()
    }

    private mutating func finish(_ number: Int, isOK: Bool, isRefused: Bool) {
        guard !requests[number].isOver else { return }
        requests[number].isOver = true
        let request = requests[number]
        let (caller, worker) = (request.caller, request.worker)
        callers[caller].workers[worker].active -= 1
        endRetry(number)
        if let breaker = callers[caller].breaker {
            if case .refuse = request.admission {
            } else {
                let result: AttemptOutcome = isOK ? .ok : isRefused ? .overloadLocal : .http5xx(status: 500)
                let (elapsed, now) = (Nanoseconds(count: now - request.start), instant)
                breaker.record(
                    result, elapsed: elapsed, admission: request.admission, now: now, random: &callers[caller].workers[worker].random)
            }
        }
        let milliseconds = Double(now - request.start) / 1e6
        outcome.calls.append(.init(start: Double(request.start) / 1e9, milliseconds: milliseconds, isOK: isOK, isRefused: isRefused))
        if request.holdsLimiter {
            let latency = isOK || milliseconds > 500 ? Nanoseconds(count: self.now - request.lastAttempt) : nil
            let now = instant
            callers[caller].workers[worker].limiter?.end(latency: latency, now: now)
            admitQueued(caller, worker)
        }
    }

    private mutating func admitQueued(_ caller: Int, _ worker: Int) {
        expireQueue(caller, worker)
        while callers[caller].workers[worker].limiter?.hasRoom == true,
            let next = callers[caller].workers[worker].queue.next(now: instant)
        {
            guard !requests[next].isOver else { continue }
            guard callers[caller].workers[worker].limiter?.begin() == true else { return }
            requests[next].holdsLimiter = true
            attempt(next)
        }
    }

    private mutating func expireQueue(_ caller: Int, _ worker: Int) {
        while let late = callers[caller].workers[worker].queue.expired(now: instant) { finish(late, isOK: false, isRefused: true) }
    }

    private mutating func sweep(_ caller: Int) {
        callers[caller].detector.sweep(now: instant)
        tellEvents(caller)
        if isRunning { schedule(.sweep(caller: caller), at: callers[caller].detector.nextSweep.nanoseconds) }
    }

    private mutating func probeConnections(_ caller: Int) {
        for host in callers[caller].detector.unconnectable {
            guard let index = callers[caller].health.firstIndex(where: { $0 === host }) else { continue }
            if case .dead = trouble(of: index)?.kind { continue }
            callers[caller].detector.checkPassed(host, now: instant)
        }
        tellEvents(caller)
        if isRunning, let interval = scenario.policy.endpoint.connectionProbeInterval {
            schedule(.connectionProbe(caller: caller), after: Nanoseconds(interval).count)
        }
    }

    // MARK: Hosts

    private func trouble(of host: Int) -> Scenario.Trouble? {
        scenario.troubles.last { $0.hosts.contains(host) && $0.from <= seconds && seconds < $0.to }
    }

    private mutating func reach(_ host: Int, _ attempt: Int) {
        let trouble = trouble(of: host)
        if trouble != nil { outcome.hits.append((seconds, host)) }
        hosts[host].served += 1
        if case .servers(let servers, let service) = scenario.limit {
            hosts[host].queue.append(attempt)
            if hosts[host].busy < servers { serve(host, service) }
            return
        }
        // 2 ms and a tail.
        let usual = 1_500_000 + Int64(random.below(1_000_000)) + (random.below(50) == 0 ? Int64(random.below(3_000_000)) : 0)
        switch trouble?.kind {
        case .dead: return schedule(.connectFailed(attempt: attempt), after: 200_000)
        case .hang: break
        case .slow(let time): schedule(.answer(attempt: attempt, status: 200), after: Nanoseconds(time).count + usual)
        case .errors(let every) where hosts[host].served % every == 0: schedule(.answer(attempt: attempt, status: 500), after: usual / 2)
        case .failing(let share) where Double(random.below(1_000_000)) < share * 1e6:
            schedule(.answer(attempt: attempt, status: 500), after: usual / 2)
        case .errors, .failing, .none: schedule(.answer(attempt: attempt, status: 200), after: usual)
        }
        hosts[host].underWay.insert(attempt)
    }

    private mutating func serve(_ host: Int, _ service: Duration) {
        guard !hosts[host].queue.isEmpty else { return }
        let attempt = hosts[host].queue.removeFirst()
        hosts[host].busy += 1
        let time = Int64(Double(Nanoseconds(service).count) * (0.9 + Double(random.below(200)) / 1000))
        schedule(.answer(attempt: attempt, status: 200), after: time)
        schedule(.serverFree(host: host), after: time)
    }

    private mutating func serverFree(_ host: Int) {
        guard case .servers(_, let service) = scenario.limit else { return }
        hosts[host].busy -= 1
        serve(host, service)
    }

    private mutating func troubleChanged() {
        for host in hosts.indices {
            guard case .dead = trouble(of: host)?.kind else { continue }
            for attempt in hosts[host].underWay.sorted() where !attempts[attempt].isOver {
                end(attempt, .resetRemote, status: 0, latency: nil)
            }
            hosts[host].underWay = []
        }
    }
}

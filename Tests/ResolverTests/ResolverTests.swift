import Base
import Reactor
import Testing

@testable import Resolver

/// A resolver whose only name server is the test's.
private struct Bench {
    let loop = EventLoop()
    let server: NameServer
    let resolver: Resolver

    init(_ configure: (inout ResolverOptions) -> Void = { _ in }) throws {
        server = try NameServer(loop: loop)
        var options = ResolverOptions()
        options.servers = [server.address]
        options.searchDomains = []
        options.tries = 1
        // What comes may come late on a busy machine.
        options.timeout = .seconds(20)
        configure(&options)
        resolver = try Resolver(loop: loop, options: options)
    }

    func resolve(_ name: String, _ family: LookupFamily = .all) throws -> Result<Answer, ResolveError> {
        var outcome: Result<Answer, ResolveError>?
        resolver.resolve(name, family: family) { outcome = $0 }
        #expect(outcome == nil, "a completion never runs inside resolve")
        turn { outcome != nil }
        return try #require(outcome)
    }

    /// Runs the loop until `condition`; a bench that hangs fails by it after 2,000 turns of at most 10 ms.
    func turn(until condition: () -> Bool) {
        for _ in 0..<2000 where !condition() { loop.turn(maximumWait: .milliseconds(10)) }
        #expect(condition(), "still nothing after 2,000 turns")
    }
}

private func success(_ addresses: [String], ttl: Int64?, unanswered: IPVersion? = nil) -> Result<Answer, ResolveError> {
    .success(Answer(addresses: addresses.map { IPAddress($0)! }, ttl: ttl.map(Nanoseconds.seconds), unanswered: unanswered))
}

@Suite struct ResolverTests {
    @Test("Every A and AAAA record is an address, each once, in order, with the smallest TTL")
    func records() throws {
        let bench = try Bench()
        bench.server.zone["cart.test"] = .records([
            .a("10.0.0.3", ttl: 40), .aaaa("fd00::2", ttl: 30), .a("10.0.0.1"), .a("10.0.0.3"), .aaaa("fd00::1"),
        ])
        #expect(try bench.resolve("cart.test") == success(["10.0.0.1", "10.0.0.3", "fd00::1", "fd00::2"], ttl: 30))
    }

    @Test(
        "The family chooses what is asked and what counts",
        arguments: [
            (.v4Only, ["10.0.0.1"], [NameServer.a]), (.v6Only, ["fd00::1"], [NameServer.aaaa]),
            (.v4Preferred, ["10.0.0.1"], [NameServer.a, NameServer.aaaa]), (.v6Preferred, ["fd00::1"], [NameServer.a, NameServer.aaaa]),
            (.all, ["10.0.0.1", "fd00::1"], [NameServer.a, NameServer.aaaa]),
        ] as [(LookupFamily, [String], [UInt16])])
    func families(family: LookupFamily, expected: [String], asked: [UInt16]) throws {
        let bench = try Bench()
        bench.server.zone["x.test"] = .records([.a("10.0.0.1"), .aaaa("fd00::1")])
        #expect(try bench.resolve("x.test", family) == success(expected, ttl: 60))
        #expect(bench.server.questions.map(\.type).sorted() == asked)
    }

    @Test("An alias is followed, and its TTL counts")
    func alias() throws {
        let bench = try Bench()
        bench.server.zone["www.test"] = .records([.alias("web.test", ttl: 7), .a("10.0.0.9", ttl: 300)])
        #expect(try bench.resolve("www.test", .v4Only) == success(["10.0.0.9"], ttl: 7))
    }

    @Test("A truncated answer is asked for again over TCP, and 200 records arrive")
    func truncation() throws {
        let bench = try Bench()
        bench.server.zone["many.test"] = .records((0..<200).map { .a("10.1.0.\($0)") })
        let answer = try bench.resolve("many.test", .v4Only).get()
        #expect(answer.addresses.count == 200)
        #expect(bench.server.questions.map(\.overTCP) == [false, true])
    }

    @Test("Of more than 1,000 addresses the first 1,000 count, and of both versions some")
    func tooMany() throws {
        let bench = try Bench()
        bench.server.zone["huge.test"] = .records(
            (0..<1500).map { .a("10.1.\($0 / 250).\($0 % 250)") } + (1...1500).map { .aaaa("fd00::\(String($0, radix: 16))") })
        let answer = try bench.resolve("huge.test").get()
        #expect(answer.addresses.count == Resolver.maxAddresses)
        #expect(answer.addresses.count(where: \.isV4) == 500)
        #expect(try bench.resolve("huge.test", .v4Only).get().addresses.count == Resolver.maxAddresses)
    }

    @Test(
        "What a name server says against it is told apart",
        arguments: [
            (.code(3), .notFound), (.code(2), .serverFailure), (.code(5), .serverFailure), (.records([]), .noAddresses),
            (.silence, .timeout),
            (.garbage, .malformedAnswer),
        ] as [(NameServer.Reply, ResolveError)])
    func failures(reply: NameServer.Reply, expected: ResolveError) throws {
        let bench = try Bench { if expected == .timeout { $0.timeout = .milliseconds(50) } }
        bench.server.zone["bad.test"] = reply
        #expect(try bench.resolve("bad.test", .v4Only) == .failure(expected))
        #expect(try bench.resolve("bad.test", .all) == .failure(expected))
    }

    @Test("Where only the question for AAAA fails, the answer says so")
    func halfAnswer() throws {
        let bench = try Bench { $0.timeout = .seconds(1) }
        bench.server.zone["half.test"] = .records([.a("10.0.0.1")])
        bench.server.zone["half.test/28"] = .silence
        #expect(try bench.resolve("half.test") == success(["10.0.0.1"], ttl: 60, unanswered: .v6))
    }

    @Test("Nobody listening at the name server is a failure, soon")
    func nobodyThere() throws {
        let bench = try Bench { $0.timeout = .milliseconds(50) }
        bench.server.close()
        let result = try bench.resolve("x.test", .v4Only)
        #expect(throws: ResolveError.self) { try result.get() }
    }

    @Test("A name without dots is looked for in the search domains")
    func searchDomains() throws {
        let bench = try Bench { $0.searchDomains = ["first.test", "second.test"] }
        bench.server.zone["cart.second.test"] = .records([.a("10.0.0.7")])
        #expect(try bench.resolve("cart", .v4Only) == success(["10.0.0.7"], ttl: 60))
        #expect(bench.server.questions.map(\.name) == ["cart.first.test", "cart.second.test"])
    }

    @Test("localhost comes from /etc/hosts, without a question and without a TTL")
    func hostsFile() throws {
        let bench = try Bench()
        #expect(try bench.resolve("localhost", .v4Only) == success(["127.0.0.1"], ttl: nil))
        #expect(bench.server.questions == [])
    }

    @Test(
        "An address is its own answer, if the family takes it",
        arguments: [
            ("10.0.0.1", .all, success(["10.0.0.1"], ttl: nil)), ("::1", .v6Only, success(["::1"], ttl: nil)),
            ("10.0.0.1", .v6Only, .failure(.noAddresses)),
        ] as [(String, LookupFamily, Result<Answer, ResolveError>)])
    func literal(name: String, family: LookupFamily, expected: Result<Answer, ResolveError>) throws {
        let bench = try Bench()
        #expect(try bench.resolve(name, family) == expected)
        #expect(bench.server.questions == [])
    }

    @Test(
        "What is no host name is not asked for",
        arguments: [
            "", ".", "a..b", "a b", "käse.test", "x/y", String(repeating: "a", count: 64), String(repeating: "a.", count: 127) + "b",
        ])
    func invalidNames(name: String) throws {
        let bench = try Bench()
        #expect(try bench.resolve(name) == .failure(.invalidName))
        #expect(bench.server.questions == [])
    }

    @Test("A cancelled lookup says nothing, and the next one works")
    func cancel() throws {
        let bench = try Bench()
        bench.server.zone["x.test"] = .records([.a("10.0.0.1")])
        let query = bench.resolver.resolve("x.test", family: .v4Only) { _ in Issue.record("a cancelled lookup completed") }
        query.cancel()
        #expect(try bench.resolve("x.test", .v4Only) == success(["10.0.0.1"], ttl: 60))
    }

    @Test("A resolver that goes away with lookups under way leaves nothing behind")
    func goesAway() throws {
        let loop = EventLoop()
        let server = try NameServer(loop: loop)
        server.zone["x.test"] = .silence
        var options = ResolverOptions()
        options.servers = [server.address]
        var resolver: Resolver? = try Resolver(loop: loop, options: options)
        for _ in 0..<3 { resolver?.resolve("x.test", family: .all) { _ in Issue.record("a lookup outlived its resolver") } }
        while server.questions.isEmpty { loop.turn(maximumWait: .milliseconds(10)) }
        weak let gone = resolver
        resolver = nil
        #expect(gone == nil)
        for _ in 0..<3 { loop.turn(maximumWait: .milliseconds(1)) }
    }

    @Test("Lookups beyond the bound wait for their turn, those beyond the queue are refused, and a completion may ask again")
    func bounds() throws {
        let bench = try Bench {
            $0.maxConcurrentLookups = 2
            $0.maxWaitingLookups = 5
        }
        for index in 0..<10 { bench.server.zone["n\(index).test"] = .records([.a("10.0.0.\(index)")]) }
        var results: [Int: Result<Answer, ResolveError>] = [:]
        for index in 0..<10 {
            bench.resolver.resolve("n\(index).test", family: .v4Only) { result in
                results[index] = result
                if index == 0 { bench.resolver.resolve("n9.test", family: .v4Only) { results[100] = $0 } }
            }
        }
        bench.turn { results.count == 11 }
        for index in 0..<7 { #expect(results[index] == success(["10.0.0.\(index)"], ttl: 60)) }
        for index in 7..<10 { #expect(results[index] == .failure(.overloaded)) }
        #expect(results[100] == success(["10.0.0.9"], ttl: 60))
    }

    @Test("A name server that was silent answers the next lookup")
    func recovers() throws {
        let bench = try Bench { $0.timeout = .seconds(1) }
        bench.server.zone["x.test"] = .silence
        #expect(try bench.resolve("x.test", .v4Only) == .failure(.timeout))
        bench.server.zone["x.test"] = .records([.a("10.0.0.1")])
        #expect(try bench.resolve("x.test", .v4Only) == success(["10.0.0.1"], ttl: 60))
    }
}

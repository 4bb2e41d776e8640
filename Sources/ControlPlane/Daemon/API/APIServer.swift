import ControlAPI
import EventStore
import HTTP
import HTTPServer
import MeshCompiler
import MeshYAML
import Projections
import Rollout
import XDSServer

/// Everything that comes in on the port: ADS streams, reports, the REST API, metrics.
final class APIServer {
    let controller: Controller
    private let access: Access
    private let joins: JoinService

    init(_ controller: Controller, joins: JoinService) {
        self.controller = controller
        self.joins = joins
        access = Access(controller: controller)
    }

    func handle(_ exchange: HTTPExchange) {
        switch exchange.path {
        case ADSService.statePath: controller.ads.open(exchange, .stateOfTheWorld)
        case ADSService.deltaPath: controller.ads.open(exchange, .delta)
        case "/outrigger.v1.Reports/Stream": controller.reports.open(exchange)
        default:
            if exchange.isGRPC {
                return GRPCServerStream.refuse(exchange, GRPC.Status.unimplemented, "there is no service \(exchange.path) here")
            }
            handlePage(exchange)
        }
    }

    private func handlePage(_ exchange: HTTPExchange) {
        switch (exchange.method, exchange.path) {
        case ("GET", "/ready"), ("HEAD", "/ready"):
            return exchange.respond(status: 200, headers: [("content-type", "text/plain")], body: Array("ready\n".utf8))
        case ("GET", "/openapi.json"):
            return exchange.respond(status: 200, headers: [("content-type", "application/json")], body: Array(OpenAPI.document.utf8))
        // A proxy that joins has no token of the API.
        case ("POST", "/v1/join"): return joins.join(APIRequest(exchange, caller: ("proxy", .read)))
        default: break
        }
        guard let path = exchange.pathSegments, let items = exchange.query else {
            return exchange.respond(problem: 400, "The path or the query is not well escaped.")
        }
        let caller: (actor: String, role: AccessRole)
        switch access.check(exchange) {
        case .success(let found): caller = found
        case .failure(let problem): return APIRequest(exchange, caller: ("", .read)).refuse(problem)
        }
        let request = APIRequest(
            exchange: exchange, path: Array(path.dropFirst()), query: Dictionary(items.map { ($0.name, $0.value) }) { $1 },
            actor: exchange.header("x-outrigger-actor").map { "\(caller.actor) (\($0.prefix(100)))" } ?? caller.actor, role: caller.role)
        if exchange.path == "/metrics" {
            let text = MeshMetrics(controller).text()
            return exchange.respond(
                status: 200, headers: [("content-type", "text/plain; version=0.0.4; charset=utf-8")], body: Array(text.utf8))
        }
        guard path.first == "v1" else {
            return request.refuse(.notFound("There is no \(exchange.path) here; /openapi.json says what there is."))
        }
        serve(request)
    }

    // MARK: Routes

    private func serve(_ request: APIRequest) {
        let (method, path) = (request.exchange.method, request.path)
        switch (method, path.first ?? "", path.count) {
        case ("GET", "status", 1): guarded(request, .read) { request.answer(MeshQueries(controller).status()) }
        case ("GET", "resources", 1): guarded(request, .read) { resources(request) }
        case ("GET", "history", 1): guarded(request, .read) { history(request) }
        case ("GET", "diff", 1): guarded(request, .read) { difference(request) }
        case ("POST", "diff", 1): guarded(request, .read) { differenceToFiles(request) }
        case ("GET", "events", 1): guarded(request, .read) { EventFeed(controller).serve(request) }
        case ("GET", "nodes", 1): guarded(request, .read) { request.answer(MeshQueries(controller).nodes()) }
        case ("GET", "outliers", 1): guarded(request, .read) { request.answer(MeshQueries(controller).outliers()) }
        case ("GET", "breakers", 1): guarded(request, .read) { request.answer(Breakers(controller).list(node: request["node"])) }
        case ("POST", "breakers", 2) where path[1] == "force":
            guarded(request, .write) { request.read(BreakerForceRequest.self) { Breakers(self.controller).force($0, request) } }
        case ("POST", "breakers", 2) where path[1] == "release":
            guarded(request, .write) { request.read(BreakerReleaseRequest.self) { Breakers(self.controller).release($0, request) } }
        case ("GET", "services", 1): guarded(request, .read) { services(request) }
        case ("GET", "compiled", 1): guarded(request, .read) { compiled(request) }
        case ("POST", "explain", 1): guarded(request, .read) { explain(request) }
        case ("GET", "rollouts", 1): guarded(request, .read) { request.answer(MeshQueries(controller).rollouts()) }
        case ("GET", "rollouts", 2):
            guarded(request, .read) {
                let found = MeshQueries(controller).rollouts().first { $0.id == path[1] }
                request.answer(found.map { .success($0) } ?? .failure(.notFound("There is no rollout \"\(path[1])\".")))
            }
        case ("POST", "rollouts", 3) where path[2] == "stop": guarded(request, .write) { stopRollout(request, path[1]) }
        case ("POST", "apply", 1): guarded(request, .write) { apply(request) }
        case ("POST", "delete", 1): guarded(request, .write) { delete(request) }
        case ("POST", "rollback", 1): guarded(request, .write) { rollback(request) }
        case ("GET", "tokens", 1): guarded(request, .admin) { request.answer(Tokens(controller).list()) }
        case ("POST", "tokens", 1):
            guarded(request, .admin) { request.read(TokenRequest.self) { Tokens(self.controller).create($0, request) } }
        case ("GET", "authority", 1): guarded(request, .read) { request.answer(joins.status) }
        case ("POST", "authority", 2) where path[1] == "rotate":
            guarded(request, .admin) { request.answer(joins.rotate(actor: request.actor)) }
        case ("DELETE", "tokens", 2): guarded(request, .admin) { Tokens(controller).revoke(path[1], request) }
        default:
            let known = [
                "status", "resources", "history", "diff", "events", "nodes", "outliers", "services", "compiled", "explain", "rollouts",
                "breakers",
            ]
            let isKnown = (known + ["apply", "delete", "rollback", "tokens", "authority"]).contains(path.first ?? "")
            let detail = "There is no \(method) \(request.exchange.path); /openapi.json says what there is."
            request.refuse(
                isKnown ? Problem("no-method", status: 405, title: "Not to be done here", detail: detail) : .notFound(detail))
        }
    }

    private func guarded(_ request: APIRequest, _ needed: AccessRole, _ body: () -> Void) {
        guard request.role >= needed else {
            return request.refuse(
                Problem(
                    "forbidden", status: 403, title: "Not allowed",
                    detail: "This needs the role \(needed.rawValue), the token has \(request.role.rawValue)."))
        }
        body()
    }

    // MARK: Commands

    private func apply(_ request: APIRequest) {
        request.read(ApplyRequest.self) { [self] body in
            plan(body.rollout, request) { rollout in
                let command = CommandQueue.Command.apply(
                    body.files.map(ManifestFile.init), strict: body.strict ?? false, namespace: body.namespace ?? "default")
                submit(command, body.reason, body.dryRun, rollout, request)
            }
        }
    }

    private func delete(_ request: APIRequest) {
        request.read(DeleteRequest.self) { [self] body in
            let namespace = body.namespace ?? "default"
            if let files = body.files, !files.isEmpty {
                return plan(body.rollout, request) { rollout in
                    let command = CommandQueue.Command.deleteFiles(files.map(ManifestFile.init), namespace: namespace)
                    submit(command, body.reason, body.dryRun, rollout, request)
                }
            }
            var keys: [ObjectKey] = []
            for name in body.resources ?? [] {
                guard let key = ObjectKey(name, defaultNamespace: namespace) else {
                    return request.refuse(
                        Problem(
                            "bad-body", status: 400, title: "No such kind", detail: "expected a kind of resource, found \"\(name.kind)\""))
                }
                keys.append(key)
            }
            plan(body.rollout, request) { submit(.delete(keys), body.reason, body.dryRun, $0, request) }
        }
    }

    private func rollback(_ request: APIRequest) {
        request.read(RollbackRequest.self) { [self] body in
            plan(body.rollout, request) { rollout in
                submit(.rollback(body.revision), body.reason ?? "back to revision \(body.revision)", body.dryRun, rollout, request)
            }
        }
    }

    private func submit(
        _ command: CommandQueue.Command, _ reason: String?, _ isDryRun: Bool?, _ rollout: StagedPlan?, _ request: APIRequest
    ) {
        controller.commands.submit(
            CommandQueue.Request(
                command: command, actor: request.actor, reason: String((reason ?? "").prefix(1000)), isDryRun: isDryRun ?? false,
                rollout: rollout)
        ) { request.answer($0) }
    }

    private func plan(_ asked: RolloutPlan?, _ request: APIRequest, then: (StagedPlan?) -> Void) {
        guard let asked else { return then(nil) }
        let stages = asked.stages.map { StagedPlan.Stage($0) }
        guard !stages.isEmpty, !stages.contains(nil), asked.pauseSeconds >= 0, asked.pauseSeconds <= 86400 else {
            let detail = "expected stages like 1, 25%, 100% and a pause of 0 to 86400 s, found \(asked.stages), \(asked.pauseSeconds) s"
            return request.refuse(Problem("bad-body", status: 400, title: "The rollout's plan is not valid", detail: detail))
        }
        then(
            StagedPlan(
                stages: stages.compactMap(\.self), pause: .milliseconds(Int(asked.pauseSeconds * 1000)),
                maxErrorPercent: asked.maxErrorPercent ?? 5))
    }

    private func stopRollout(_ request: APIRequest, _ id: String) {
        guard controller.rollouts.running.map({ "\($0)" }) == id else {
            return request.refuse(.notFound("No rollout \"\(id)\" is running."))
        }
        controller.rollouts.stop("stopped by \(request.actor)")
        request.answer(MeshQueries(controller).rollouts().first { $0.id == id }.map { .success($0) } ?? .failure(.notFound(id)))
    }

    // MARK: Queries

    private func history(_ request: APIRequest) {
        request.answer(request.number("limit").map { MeshQueries(controller).history(limit: $0 ?? 100) })
    }

    private func services(_ request: APIRequest) {
        request.answer(request.number("window").map { MeshQueries(controller).services(seconds: $0 ?? 30) })
    }

    private func resources(_ request: APIRequest) {
        let (kind, namespace, name) = (request["kind"], request["namespace"], request["name"])
        past(request) { state in ResourceList(state, kind: kind, namespace: namespace, name: name) }
    }

    /// The state that the query asks for, now or in the past, and what is made of it. The past is read beside the loop.
    private func past<Value: Encodable & Sendable>(
        _ request: APIRequest, _ body: @escaping @Sendable (DesiredState) -> Value
    ) {
        let models = controller.journal.models
        let history = models.history
        func reply(_ result: Result<Value, any Error>) {
            request.answer(result.mapError { Problem(past: $0) })
        }
        if let text = request["time"] {
            guard let time = UnixTime(text: text) else {
                return request.refuse(.badQuery("time", expected: "a time like 2026-11-23T01:02:03Z", found: text))
            }
            controller.journal.read { log in
                body(try PastStates(log: log, history: history).state(at: time))
            } then: {
                reply($0)
            }
        } else {
            switch request.number("revision") {
            case .failure(let problem): request.refuse(problem)
            case .success(nil): request.answer(body(models.desired))
            case .success(let revision?):
                controller.journal.read { log in
                    body(try PastStates(log: log, history: history).state(atRevision: revision))
                } then: {
                    reply($0)
                }
            }
        }
    }

    private func difference(_ request: APIRequest) {
        let models = controller.journal.models
        let (history, newest) = (models.history, models.desired.revision)
        switch (request.number("from"), request.number("to")) {
        case (.success(let from), .success(let to)):
            controller.journal.read { log -> [ResourceDifference] in
                let past = PastStates(log: log, history: history)
                let before = try past.state(atRevision: from ?? max(0, newest - 1))
                return try before.differences(to: past.state(atRevision: to ?? newest)).map { ResourceDifference($0) }
            } then: { result in
                request.answer(result.mapError { Problem(past: $0) })
            }
        case (.failure(let problem), _), (_, .failure(let problem)): request.refuse(problem)
        }
    }

    private func differenceToFiles(_ request: APIRequest) {
        request.read(ApplyRequest.self) { [self] body in
            let desired = controller.journal.models.desired
            let files = body.files.map(ManifestFile.init)
            let (strict, namespace) = (body.strict ?? false, body.namespace ?? "default")
            controller.workshop.run {
                Projections.Command.plan(apply: files, onto: desired, strict: strict, defaultNamespace: namespace).map { plan in
                    plan.events.compactMap { ResourceDifference($0, before: desired) }
                }.mapError { Problem.invalid($0.diagnostics) }
            } then: {
                request.answer($0)
            }
        }
    }

    private func compiled(_ request: APIRequest) {
        guard let name = request["node"] ?? request["gateway"] else {
            return request.refuse(.badQuery("node", expected: "the name of a VirtualNode or VirtualGateway", found: ""))
        }
        MeshQueries(controller).compile(name, instance: request["instance"]) { result in
            request.answer(
                result.map { CompiledText(version: $0.version, text: $0.node.yaml(version: $0.version), instance: $0.instance) })
        }
    }

    private func explain(_ request: APIRequest) {
        request.read(ExplainRequest.self) { [self] body in
            MeshQueries(controller).compile(body.from, instance: body.instance) { result in
                request.answer(
                    result.flatMap { MeshQueries.explain(body, $0.node) }.map { Breakers(self.controller).explain($0, of: body.from) })
            }
        }
    }
}

extension APIRequest {
    fileprivate init(_ exchange: HTTPExchange, caller: (actor: String, role: AccessRole)) {
        self.init(exchange: exchange, path: [], query: [:], actor: caller.actor, role: caller.role)
    }
}

extension Problem {
    fileprivate init(past error: any Error) {
        if let unknown = error as? UnknownRevision {
            self = Problem("unknown-revision", status: 404, title: "No such revision", detail: "\(unknown)")
        } else {
            self = .internal("\(error)")
        }
    }
}

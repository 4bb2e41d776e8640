import Base
import MeshModel
import Testing

@testable import MeshYAML

@Suite("Mesh, VirtualService, VirtualRouter, VirtualGateway, GatewayRoute, BackendGroup, field by field")
struct OtherKindsTests {
    @Test(
        "Mesh",
        arguments: [
            ("namespaceSelector: {}", nil), ("egressFilter: {type: ALLOW_ALL}", nil), ("meshOwner: \"123456789012\"", nil),
            ("meshServiceDiscovery: {ipPreference: IPv6_ONLY}", nil),
            ("egressFilter: {}", ".egressFilter.type: expected one of ALLOW_ALL, DROP_ALL (required), found nothing"),
            ("egressFilter: {type: DROP}", ".egressFilter.type: expected one of ALLOW_ALL, DROP_ALL, found DROP"),
            ("meshOwner: \"12\"", ".meshOwner: expected the 12 digits of an AWS account, in quotes, found the string \"12\""),
            ("meshOwner: 123456789012", ".meshOwner: expected the 12 digits of an AWS account, in quotes, found 123456789012"),
        ] as [(String, String?)])
    func mesh(spec: String, expected: String?) {
        #expect(Manifests.problems(.mesh, spec) == (expected.map { ["spec" + $0] } ?? []))
    }

    @Test("Mesh without spec is a mesh that selects nothing")
    func emptyMesh() {
        let result = Manifests.load(("app.yaml", "apiVersion: appmesh.k8s.aws/v1beta2\nkind: Mesh\nmetadata: {name: a}\n"))
        #expect(result.diagnostics == [])
        #expect(Array(result.resources.meshes) == [Mesh(meta: ResourceMeta(name: "a", namespace: ""))])
    }

    @Test("Mesh's fields reach the model")
    func meshFields() {
        let spec =
            "spec: {awsName: b, namespaceSelector: {matchLabels: {a: b}}, egressFilter: {type: DROP_ALL}, meshOwner: "
            + "\"123456789012\", meshServiceDiscovery: {ipPreference: IPv6_PREFERRED}}"
        let result = Manifests.load(("app.yaml", "apiVersion: appmesh.k8s.aws/v1beta2\nkind: Mesh\nmetadata: {name: a}\n" + spec))
        #expect(
            result.resources.meshes.first
                == Mesh(
                    meta: ResourceMeta(name: "a", namespace: ""), awsName: "b", namespaceSelector: LabelSelector(matchLabels: ["a": "b"]),
                    egressFilter: .dropAll, meshOwner: "123456789012", ipPreference: .v6Preferred))
    }

    @Test(
        "VirtualService and BackendGroup",
        arguments: [
            (.virtualService, "provider: {}", nil),
            (.virtualService, "awsName: a.example\nprovider: {virtualNode: {virtualNodeRef: {name: a}}}", nil),
            (
                .virtualService, "provider: {virtualNode: {virtualNodeRef: {name: a}}, virtualRouter: {virtualRouterRef: {name: b}}}",
                "spec.provider: expected only one of virtualNode, virtualRouter, found virtualNode and virtualRouter"
            ),
            (
                .virtualService, "provider: {virtualRouter: {}}",
                "spec.provider.virtualRouter: expected exactly one of virtualRouterRef, virtualRouterARN, found none"
            ),
            (.virtualService, "provider: {virtualRouter: {virtualRouterARN: a}}", warning),
            (.backendGroup, "virtualservices: [{name: a}, {name: b, namespace: c}]", nil),
            (
                .backendGroup, "virtualservices: [{}]",
                "spec.virtualservices[0].name: expected a string that is not empty (required), found nothing"
            ),
            (.backendGroup, "virtualServices: []", "warning: spec.virtualServices: unknown field, ignored; did you mean virtualservices?"),
        ] as [(ResourceKind, String, String?)])
    func services(kind: ResourceKind, spec: String, expected: String?) {
        #expect(Manifests.problems(kind, spec) == (expected.map { [$0] } ?? []))
    }

    private static let warning =
        "warning: spec.provider.virtualRouter.virtualRouterARN: an ARN names what is in AWS and cannot be found here: nothing goes there"

    static let action = "action: {weightedTargets: [{virtualNodeRef: {name: n}, weight: 1}]}"

    @Test(
        "VirtualRouter: httpRoute and http2Route",
        arguments: [
            ("match: {prefix: /}", nil),
            ("match: {path: {exact: /a}, method: GET, scheme: https, port: 80}", nil),
            ("match: {path: {regex: \".*\"}}", nil),
            ("match: {path: {regex: \"(?=a)\"}}", ".match.path.regex: not a regular expression of RE2: invalid perl operator: (?="),
            (
                "match: {prefix: /, headers: [{name: a, match: {regex: \"a**\"}}]}",
                ".match.headers[0].match.regex: not a regular expression of RE2: bad repetition operator: **"
            ),
            ("match: {}", ".match: Either Prefix or Path must be specified"),
            ("match: {prefix: /, path: {exact: /}}", ".match: Both Prefix and Path cannot be specified, only 1 allowed"),
            ("match: {path: {}}", ".match.path: Either exact or regex for path must be specified"),
            ("match: {path: {exact: /a, regex: b}}", ".match.path: expected only one of exact, regex, found exact and regex"),
            ("match: {prefix: a}", ".match.prefix: expected a path that starts with /, found a"),
            (
                "match: {prefix: /, method: get}",
                ".match.method: expected one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH, found get"
            ),
            ("match: {prefix: /, scheme: ftp}", ".match.scheme: expected one of http, https, found ftp"),
            ("match: {prefix: /, port: 0}", ".match.port: expected a port from 1 through 65535, found 0"),
            ("match: {prefix: /, headers: []}", ".match.headers: expected a list of 1 through 10, found 0"),
            ("match: {prefix: /, headers: [{name: a}]}", nil),
            ("match: {prefix: /, headers: [{name: a, invert: true, match: }]}", nil),
            (
                "match: {prefix: /, headers: [{match: {exact: b}}]}",
                ".match.headers[0].name: expected a string of 1 through 50 characters (required), found nothing"
            ),
            (
                "match: {prefix: /, headers: [{name: a, match: {exact: b, prefix: c}}]}",
                ".match.headers[0].match: expected only one of exact, prefix, suffix, regex, range, found exact and prefix"
            ),
            (
                "match: {prefix: /, headers: [{name: a, match: {exact: \"\"}}]}",
                ".match.headers[0].match.exact: expected a string of 1 through 255 characters, found an empty string"
            ),
            ("match: {prefix: /, headers: [{name: a, match: {range: {start: -5, end: 5}}}]}", nil),
            (
                "match: {prefix: /, headers: [{name: a, match: {range: {start: 5, end: 5}}}]}",
                ".match.headers[0].match.range.end: expected an integer above start (5), which it does not include, found 5"
            ),
            (
                "match: {prefix: /, headers: [{name: a, match: {range: {start: 5}}}]}",
                ".match.headers[0].match.range.end: expected an integer (required), found nothing"
            ),
            ("match: {prefix: /, queryParameters: [{name: a}, {name: b, match: {exact: c}}, {name: d, match: {}}]}", nil),
            (
                "match: {prefix: /, queryParameters: [{}]}",
                ".match.queryParameters[0].name: expected a string that is not empty (required), found nothing"
            ),
            ("match: {prefix: /}, timeout: {perRequest: 20s, idle: 1m}", nil),
            (
                "match: {prefix: /}, retryPolicy: {\(retry), httpRetryEvents: [server-error, gateway-error, client-error, stream-error]}",
                nil
            ),
            ("match: {prefix: /}, retryPolicy: {\(retry), tcpRetryEvents: [connection-error]}", nil),
            (
                "match: {prefix: /}, retryPolicy: {\(retry)}",
                ".retryPolicy: expected at least one of httpRetryEvents, tcpRetryEvents, found none"
            ),
            (
                "match: {prefix: /}, retryPolicy: {\(retry), httpRetryEvents: [timeout]}",
                ".retryPolicy.httpRetryEvents[0]: expected one of server-error, gateway-error, client-error, stream-error, found timeout"
            ),
            (
                "match: {prefix: /}, retryPolicy: {maxRetries: -1, perRetryTimeout: 1s, tcpRetryEvents: [connection-error]}",
                ".retryPolicy.maxRetries: expected an integer of at least 0, found -1"
            ),
            (
                "match: {prefix: /}, retryPolicy: {maxRetries: 1, tcpRetryEvents: [connection-error]}",
                ".retryPolicy.perRetryTimeout: expected a duration such as 30s or {unit: s, value: 30} (required), found nothing"
            ),
        ] as [(String, String?)])
    func httpRoute(text: String, expected: String?) {
        for (key, `protocol`) in [("httpRoute", "http"), ("http2Route", "http2")] {
            let spec =
                "listeners: [{portMapping: {port: 80, protocol: \(`protocol`)}}]\nroutes: [{name: r, \(key): {\(text), \(Self.action)}}]"
            #expect(Manifests.problems(.virtualRouter, spec) == (expected.map { ["spec.routes[0].\(key)" + $0] } ?? []))
        }
    }

    private static let retry = "maxRetries: 2, perRetryTimeout: {unit: ms, value: 2000}"

    @Test(
        "VirtualRouter: grpcRoute",
        arguments: [
            ("match: {}", nil),
            ("match: {serviceName: a.B, methodName: c, metadata: [{name: d, match: {suffix: e}}], port: 80}", nil),
            ("match: {methodName: c}", ".match.serviceName: expected the service of the methodName (required), found nothing"),
            (
                "match: {serviceName: a, methodName: \"\"}",
                ".match.methodName: expected a string of 1 through 50 characters, found an empty string"
            ),
            ("match: {metadata: []}", ".match.metadata: expected a list of 1 through 10, found 0"),
            (
                "match: {}, retryPolicy: {\(retry), grpcRetryEvents: [cancelled, deadline-exceeded, internal, resource-exhausted, "
                    + "unavailable]}",
                nil
            ),
            (
                "match: {}, retryPolicy: {\(retry), grpcRetryEvents: [aborted]}",
                ".retryPolicy.grpcRetryEvents[0]: expected one of cancelled, deadline-exceeded, internal, resource-exhausted, "
                    + "unavailable, found aborted"
            ),
            (
                "match: {}, retryPolicy: {\(retry)}",
                ".retryPolicy: expected at least one of httpRetryEvents, tcpRetryEvents, grpcRetryEvents, found none"
            ),
        ] as [(String, String?)])
    func grpcRoute(text: String, expected: String?) {
        let spec = "listeners: [{portMapping: {port: 80, protocol: grpc}}]\nroutes: [{name: r, grpcRoute: {\(text), \(Self.action)}}]"
        #expect(Manifests.problems(.virtualRouter, spec) == (expected.map { ["spec.routes[0].grpcRoute" + $0] } ?? []))
    }

    @Test(
        "VirtualRouter: tcpRoute, targets and the rest",
        arguments: [
            ("routes: [{name: r, tcpRoute: {\(action), timeout: {idle: 5s}, match: {port: 80}}}]", nil),
            ("routes: [{name: r, priority: 1000, tcpRoute: {\(action)}}]", nil),
            (
                "routes: [{name: r, priority: 1001, tcpRoute: {\(action)}}]",
                ".routes[0].priority: expected an integer from 0 through 1000, found 1001"
            ),
            ("routes: [{tcpRoute: {\(action)}}]", ".routes[0].name: expected a string that is not empty (required), found nothing"),
            ("routes: [{name: r}]", ".routes[0]: expected exactly one of httpRoute, http2Route, grpcRoute, tcpRoute, found none"),
            (
                "routes: [{name: r, tcpRoute: {\(action)}, grpcRoute: {match: {}, \(action)}}]",
                ".routes[0]: expected only one of httpRoute, http2Route, grpcRoute, tcpRoute, found grpcRoute and tcpRoute"
            ),
            ("routes: [{name: r, tcpRoute: {}}]", ".routes[0].tcpRoute.action: expected a mapping (required), found nothing"),
            (
                "routes: [{name: r, tcpRoute: {action: {weightedTargets: []}}}]",
                ".routes[0].tcpRoute.action.weightedTargets: expected a list of 1 through 10, found 0"
            ),
            (
                "routes: [{name: r, tcpRoute: {action: {weightedTargets: [{virtualNodeRef: {name: a}, weight: 101}]}}}]",
                ".routes[0].tcpRoute.action.weightedTargets[0].weight: expected an integer from 0 through 100, found 101"
            ),
            (
                "routes: [{name: r, tcpRoute: {action: {weightedTargets: [{virtualNodeRef: {name: a}}]}}}]",
                ".routes[0].tcpRoute.action.weightedTargets[0].weight: expected an integer from 0 through 100 (required), found nothing"
            ),
            (
                "routes: [{name: r, tcpRoute: {action: {weightedTargets: [{weight: 1}]}}}]",
                ".routes[0].tcpRoute.action.weightedTargets[0]: expected exactly one of virtualNodeRef, virtualNodeARN, found none"
            ),
            (
                "routes: [{name: r, tcpRoute: {action: {weightedTargets: [{virtualNodeRef: {name: a}, weight: 60}, "
                    + "{virtualNodeRef: {name: b}, weight: 41}]}}}]",
                ".routes[0].tcpRoute.action.weightedTargets: expected weights whose sum is at most 100, found 101"
            ),
        ] as [(String, String?)])
    func otherRoutes(text: String, expected: String?) {
        let spec = "listeners: [{portMapping: {port: 80, protocol: tcp}}]\n" + text
        #expect(Manifests.problems(.virtualRouter, spec) == (expected.map { ["spec" + $0] } ?? []))
    }

    @Test(
        "VirtualRouter: listeners",
        arguments: [
            ("routes: []", ".listeners: expected a list of at least 1 (required), found nothing"),
            ("listeners: []", ".listeners: expected a list of at least 1, found 0"),
            ("listeners: [{}]", ".listeners[0].portMapping: expected a mapping (required), found nothing"),
        ] as [(String, String)])
    func routerListeners(spec: String, expected: String) {
        #expect(Manifests.problems(.virtualRouter, spec) == ["spec" + expected])
    }

    @Test(
        "VirtualGateway",
        arguments: [
            ("portMapping: {port: 80, protocol: http}, connectionPool: {http: {maxConnections: 1}}", nil),
            ("portMapping: {port: 80, protocol: tcp}", "[0].portMapping.protocol: expected one of grpc, http, http2, found tcp"),
            ("tls: {mode: DISABLED, certificate: {sds: {secretName: a}}}", "[0].portMapping: expected a mapping (required), found nothing"),
            (
                "portMapping: {port: 80, protocol: http}, healthCheck: {protocol: http, unhealthyThreshold: 2, timeoutMillis: "
                    + "2000, intervalMillis: 5000}",
                nil
            ),
            (
                "portMapping: {port: 80, protocol: http}, connectionPool: {http: {maxConnections: 1}, http2: {maxRequests: 1}}",
                "[0].connectionPool: Only one type of Virtual Gateway Connection Pool is allowed"
            ),
            (
                "portMapping: {port: 80, protocol: http}, connectionPool: {grpc: {maxRequests: 1}}",
                "[0].connectionPool.grpc: expected the listener's protocol http, found grpc"
            ),
        ] as [(String, String?)])
    func gateway(text: String, expected: String?) {
        let spec = "namespaceSelector: {}\ngatewayRouteSelector: {matchLabels: {a: b}}\nlisteners: [{\(text)}]"
        #expect(Manifests.problems(.virtualGateway, spec) == (expected.map { ["spec.listeners" + $0] } ?? []))
    }

    @Test("VirtualGateway has no timeout and no outlierDetection")
    func gatewayUnknown() {
        let spec = "listeners: [{portMapping: {port: 80, protocol: http}, timeout: {http: {}}, outlierDetection: {}}]"
        #expect(
            Manifests.problems(.virtualGateway, spec) == [
                "warning: spec.listeners[0].timeout: unknown field, ignored",
                "warning: spec.listeners[0].outlierDetection: unknown field, ignored",
            ])
    }

    static let target = "target: {virtualService: {virtualServiceRef: {name: s}}}"

    @Test(
        "GatewayRoute: httpRoute and http2Route",
        arguments: [
            ("match: {prefix: /a, method: GET, port: 80}, action: {\(target)}", nil),
            ("match: {hostname: {suffix: .example}}, action: {\(target)}", nil),
            ("match: {path: {regex: a}, headers: [{name: a}], queryParameters: [{name: a, match: {exact: b}}]}, action: {\(target)}", nil),
            ("match: {}, action: {\(target)}", ".match: expected at least one of prefix, path, hostname, found none"),
            (
                "match: {prefix: /, path: {exact: /}}, action: {\(target)}",
                ".match: Both Prefix and Path cannot be specified, only 1 allowed"
            ),
            ("match: {hostname: {}}, action: {\(target)}", ".match.hostname: expected exactly one of exact, suffix, found none"),
            (
                "match: {prefix: /aws-appmesh/x}, action: {\(target)}",
                ".match.prefix: prefixes that start with /aws-appmesh or /aws-app-mesh are reserved, found \"/aws-appmesh/x\""
            ),
            (
                "match: {prefix: /, queryParameters: [{name: a, match: {}}]}, action: {\(target)}",
                ".match.queryParameters[0].match.exact: expected a string (required), found nothing"
            ),
            ("match: {prefix: /}", ".action: expected a mapping (required), found nothing"),
            ("match: {prefix: /}, action: {}", ".action.target: expected a mapping (required), found nothing"),
            ("match: {prefix: /}, action: {target: {}}", ".action.target.virtualService: expected a mapping (required), found nothing"),
            (
                "match: {prefix: /}, action: {\(target), rewrite: {}}",
                ".action.rewrite: expected at least one of prefix, path, hostname, found none"
            ),
            ("match: {prefix: /}, action: {\(target), rewrite: {hostname: {defaultTargetHostname: DISABLED}}}", nil),
            (
                "match: {prefix: /}, action: {\(target), rewrite: {hostname: {}}}",
                ".action.rewrite.hostname.defaultTargetHostname: expected one of ENABLED, DISABLED (required), found nothing"
            ),
            ("match: {prefix: /}, action: {\(target), rewrite: {prefix: {value: /a/}}}", nil),
            ("match: {prefix: /}, action: {\(target), rewrite: {prefix: {}}}", nil),
            (
                "match: {prefix: /}, action: {\(target), rewrite: {prefix: {value: /a}}}",
                ".action.rewrite.prefix.value: expected a path of 1 through 255 characters that starts and ends with /, found /a"
            ),
            (
                "match: {prefix: /}, action: {\(target), rewrite: {prefix: {value: /a/, defaultPrefix: ENABLED}}}",
                ".action.rewrite.prefix: expected only one of defaultPrefix, value, found defaultPrefix and value"
            ),
            (
                "match: {prefix: /}, action: {\(target), rewrite: {prefix: {value: /a/}, path: {exact: /b}}}",
                ".action.rewrite: expected only one of prefix, path, found prefix and path"
            ),
            ("match: {hostname: {exact: a}}, action: {\(target), rewrite: {prefix: {value: /a/}}}", nil),
            (
                "match: {path: {regex: \"[a\"}}, action: {\(target)}",
                ".match.path.regex: not a regular expression of RE2: missing closing ]: [a"
            ),
        ] as [(String, String?)])
    func gatewayHTTPRoute(text: String, expected: String?) {
        for key in ["httpRoute", "http2Route"] {
            #expect(Manifests.problems(.gatewayRoute, "\(key): {\(text)}") == (expected.map { ["spec.\(key)" + $0] } ?? []))
        }
    }

    @Test("GatewayRoute: only a matched prefix can be rewritten")
    func uselessRewrite() {
        let spec = "httpRoute: {match: {path: {exact: /a}}, action: {\(Self.target), rewrite: {prefix: {value: /a/}}}}"
        #expect(
            Manifests.problems(.gatewayRoute, spec) == [
                "warning: spec.httpRoute.action.rewrite.prefix: without effect: only a matched prefix can be rewritten"
            ])
    }

    @Test(
        "GatewayRoute: grpcRoute and the rest",
        arguments: [
            ("grpcRoute: {match: {serviceName: a, metadata: [{name: b}], port: 80}, action: {\(target)}}", nil),
            ("grpcRoute: {match: {hostname: {exact: a}}, action: {\(target), rewrite: {hostname: {defaultTargetHostname: ENABLED}}}}", nil),
            ("grpcRoute: {match: {}, action: {\(target)}}", ".grpcRoute.match: expected at least one of serviceName, hostname, found none"),
            (
                "priority: 1001\ngrpcRoute: {match: {serviceName: a}, action: {\(target)}}",
                ".priority: expected an integer from 0 through 1000, found 1001"
            ),
            ("priority: 1", ": Missing GatewayRoute Type in GatewayRoute Spec"),
            (
                "grpcRoute: {match: {serviceName: a}, action: {\(target)}}\nhttpRoute: {match: {prefix: /}, action: {\(target)}}",
                ": Found multiple types in GatewayRoute Spec. Only 1 (GRPC/HTTP/HTTP2) allowed"
            ),
        ] as [(String, String?)])
    func gatewayGRPCRoute(spec: String, expected: String?) {
        #expect(Manifests.problems(.gatewayRoute, spec) == (expected.map { ["spec" + $0] } ?? []))
    }

    @Test("routes reach the model")
    func routes() throws {
        let yaml = """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualRouter
            metadata: {name: r}
            spec:
              listeners: [{portMapping: {port: 80, protocol: http}}]
              routes:
              - name: one
                priority: 3
                httpRoute:
                  match:
                    path: {regex: "/a.*"}
                    method: POST
                    scheme: https
                    port: 80
                    headers: [{name: a, invert: true, match: {range: {start: 1, end: 9}}}]
                    queryParameters: [{name: q, match: {exact: x}}, {name: p}]
                  action:
                    weightedTargets:
                    - {virtualNodeRef: {name: n, namespace: other}, weight: 0, port: 8080}
                    - {virtualNodeARN: "arn:n", weight: 7}
                  retryPolicy: {maxRetries: 4, perRetryTimeout: 2s, httpRetryEvents: [server-error], tcpRetryEvents: [connection-error]}
                  timeout: {perRequest: 0s}
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: GatewayRoute
            metadata: {name: g}
            spec:
              priority: 5
              http2Route:
                match: {prefix: /x, hostname: {suffix: .example}, headers: [{name: a, match: {suffix: z}}]}
                action:
                  target: {virtualService: {virtualServiceRef: {name: s}}, port: 81}
                  rewrite: {prefix: {defaultPrefix: DISABLED}, hostname: {defaultTargetHostname: DISABLED}}
            """
        let result = Manifests.load(("app.yaml", yaml))
        #expect(result.diagnostics.filter { $0.severity == .error } == [])
        let route = HTTPRoute(
            match: HTTPRoute.Match(
                path: .regex("/a.*"), method: .post, scheme: .https, port: 80,
                headers: [HeaderMatch(name: "a", value: .range(start: 1, end: 9), invert: true)],
                queryParameters: [QueryParameterMatch(name: "q", exact: "x"), QueryParameterMatch(name: "p")]),
            targets: [
                WeightedTarget(virtualNode: .object(ObjectReference(name: "n", namespace: "other")), weight: 0, port: 8080),
                WeightedTarget(virtualNode: .arn("arn:n"), weight: 7),
            ],
            retryPolicy: RouteRetryPolicy(
                maxRetries: 4, perRetryTimeout: .seconds(2), httpRetryEvents: [.serverError], tcpRetryEvents: [.connectionError]),
            timeout: TimeoutPolicy(perRequest: .zero))
        #expect(result.resources.virtualRouters.first?.routes == [RouterRoute(name: "one", priority: 3, rule: .http(route))])
        let gateway = GatewayHTTPRoute(
            match: GatewayHTTPRoute.Match(
                path: .prefix("/x"), hostname: .suffix(".example"), headers: [HeaderMatch(name: "a", value: .suffix("z"))]),
            target: GatewayTarget(virtualService: .object(ObjectReference(name: "s")), port: 81),
            rewrite: GatewayHTTPRoute.Rewrite(path: .defaultPrefix(false), defaultTargetHostname: false))
        #expect(result.resources.gatewayRoutes.first?.rule == .http2(gateway))
        #expect(result.resources.gatewayRoutes.first?.priority == 5)
    }

    @Test("kinds of others are left alone; what looks like ours and is not, says so")
    func foreignKinds() {
        let yaml = """
            apiVersion: v1
            kind: Service
            metadata: {name: A_B, whatever: [1]}
            ---
            apiVersion: networking.istio.io/v1
            kind: VirtualService
            ---
            apiVersion: apps/v1
            kind: Deployment
            spec: {a: 1}
            """
        #expect(Manifests.diagnose(yaml) == [])
        #expect(
            Manifests.diagnose("apiVersion: appmesh/v1beta2\nkind: VirtualNode\n") == [
                "app.yaml:1:13: warning: VirtualNode apiVersion: not read: a VirtualNode of the mesh has apiVersion "
                    + "appmesh.k8s.aws/v1beta2, found appmesh/v1beta2"
            ])
        #expect(
            Manifests.diagnose("apiVersion: outrigger/v1\nkind: VirtualNode\n") == [
                "app.yaml:2:7: kind: expected one of Sidecar, EndpointSet, MeshPolicy, TrafficPolicy, found VirtualNode"
            ])
        #expect(
            Manifests.diagnose("apiVersion: outrigger/v2\nkind: Sidecar\n") == [
                "app.yaml:1:13: Sidecar apiVersion: expected outrigger/v1, found outrigger/v2"
            ])
    }
}

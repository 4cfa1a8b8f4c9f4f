// npm's oidc-provider with RFC 8693's grant registered, as its documentation does it
// ("Custom Grant Types"): node oidc_provider.mjs MODULE PORT LOGIN_LIFETIME EXCHANGED_LIFETIME
// Each user of its one client logs in by POST /log-in/<name>, which answers with a refresh token.
// GET /grants: how often it has given what, as it says itself. Secrets are in no output.
const [module, port, ...lifetimes] = process.argv.slice(2);
const { default: Provider, errors } = await import(module);
const [loginLifetime, exchangedLifetime] = lifetimes.map(Number);
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange';
const scope = 'openid offline_access profile';

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'hub',
    client_secret: process.env.CLIENT_SECRET,
    grant_types: ['authorization_code', 'refresh_token', exchange],
    redirect_uris: ['http://127.0.0.1/hub/oauth_callback'],
    scope,
  }],
  cookies: { keys: [process.env.CLIENT_SECRET] },
  features: {
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
  },
  findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  rotateRefreshToken: true,
  routes: {  // the paths of the other provider that the tests have
    introspection: '/o/introspect/',
    revocation: '/o/revoke_token/',
    token: '/o/token/',
    userinfo: '/userinfo/',
  },
  scopes: scope.split(' '),
  ttl: {
    AccessToken: (ctx, token) => token.resourceServer?.accessTokenTTL ?? loginLifetime,
    Grant: 86400,
    IdToken: loginLifetime,
    RefreshToken: 86400,
  },
});

provider.registerGrantType(exchange, async (ctx) => {
  const { client, params } = ctx.oidc;
  const subject = await provider.AccessToken.find(params.subject_token ?? '');
  if (subject?.clientId !== client.clientId) {
    throw new errors.InvalidRequest('the subject token is invalid');  // RFC 8693, section 2.2.2
  }
  if (!params.audience || params.audience === 'forbidden') throw new errors.InvalidTarget();
  const { accountId, grantId } = subject;
  const { scope } = params;
  const token = new provider.AccessToken({ accountId, client, grantId, gty: exchange, scope });
  token.resourceServer = new provider.ResourceServer(String(params.audience), {
    scope, accessTokenTTL: exchangedLifetime,
  });
  ctx.oidc.entity('AccessToken', token);
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: token.tokenType,
    expires_in: token.expiration,
    scope: token.scope || undefined,
  };
}, [
  'subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope',
], ['audience', 'resource']);

const grants = {};
provider.on('grant.success', ({ oidc: { entities, params } }) => {
  const user = entities.AccessToken.accountId;
  const key = [user, ...[params.audience ?? []].flat()].join(' ');
  grants[key] = (grants[key] ?? 0) + 1;
});

provider.use(async (ctx, next) => {
  ctx.set('Connection', 'close');  // else the Hub's client for its servers has open ones in the end
  if (ctx.path === '/grants') ctx.body = grants;
  else if (ctx.path.startsWith('/log-in/')) {
    const accountId = ctx.path.split('/')[2];
    const client = await provider.Client.find('hub');
    const grant = new provider.Grant({ accountId, clientId: 'hub' });
    grant.addOIDCScope(scope);
    const grantId = await grant.save();
    const gty = 'authorization_code';
    const token = new provider.RefreshToken({ accountId, client, grantId, gty, scope });
    ctx.body = await token.save();
  } else await next();
});

provider.listen(port, '127.0.0.1', () => console.log('ready'));

import t from 'tap'
import { allowedUrl, isPublic, type Resolve } from '../../../src/services/uploads/urls.ts'

const unresolved: Resolve = async () => {
  throw new Error('ENOTFOUND')
}
const resolvesTo =
  (...addresses: string[]): Resolve =>
  async () =>
    addresses.map(address => ({ address, family: address.includes(':') ? 6 : 4 }))

const REFUSED = `
  http://169.254.169.254/latest/meta-data/
  http://[::ffff:169.254.169.254]/
  http://[::ffff:a9fe:a9fe]/
  http://[::ffff:8.8.8.8]/a.mp4
  http://[::169.254.169.254]/
  http://[64:ff9b::a9fe:a9fe]/
  http://[64:ff9b::8.8.8.8]/
  http://[64:ff9b:1::a00:1]/
  http://[2002:a9fe:a9fe::]/
  http://[2002:808:808::1]/
  http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/
  http://[fd00:ec2::254]/
  http://[fe80::1]/
  http://[fec0::1]/
  http://[ff02::1]/
  http://[::1]/
  http://[::]/
  http://[2001:db8::1]/
  http://[100::1]/
  http://0/
  http://0.0.0.0/
  http://0x7f000001/
  http://0x7f.1/
  http://2130706433/
  http://127.1/
  http://127.0.0.1./
  http://0177.0.0.1/
  http://%31%32%37.0.0.1/
  http://127。0。0。1/
  http://①②⑦.⓪.⓪.①/
  http://10.0.0.1/a.mp4
  http://172.16.0.1/
  http://172.31.255.255/
  http://192.168.1.1/
  http://192.0.0.192/
  http://198.18.0.1/
  http://100.64.0.1/
  http://100.100.100.200/
  http://168.63.129.16/
  http://224.0.0.1/
  http://255.255.255.255/
  http://localhost/
  http://localhost./
  http://LOCALHOST/
  http://app.localhost/
  http://metadata/
  http://metadata.google.internal/
  http://router.lan/
  http://printer.local./
  http://1.0.0.127.in-addr.arpa/
  http://user@example.org/a.mp4
  http://user:word@example.org/a.mp4
  http://:word@example.org/a.mp4
  http://evil#@good.example.org/
  http://example.com#@good.example.org/
  http://example.com\\@10.0.0.1/
  http://example.org:22/a.mp4
  http://example.org:25/a.mp4
  http://example.org:5432/a.mp4
  http://example.org:6379/a.mp4
  http://example.org:0/a.mp4
  https://example.org:65535/a.mp4
  http:example.org/a.mp4
  http:///example.org/a.mp4
  //example.org/a.mp4
  /a.mp4
  example.org/a.mp4
  file:///etc/passwd
  gopher://example.org/_x
  ftp://example.org/a.mp4
  data:video/mp4;base64,AAAA
  javascript:alert(1)
  blob:https://example.org/1
  ws://example.org/
  http://
  http://[::1
`

const ALLOWED = {
  'https://example.org/a.mp4': 'https://example.org/a.mp4',
  'http://example.org:80/a.mp4': 'http://example.org/a.mp4',
  'https://example.org:8443/a.mp4?sig=x%20y': 'https://example.org:8443/a.mp4?sig=x%20y',
  'http://example.org:8080/a.mp4': 'http://example.org:8080/a.mp4',
  'HTTPS://EXAMPLE.ORG/A.mp4#t=10': 'https://example.org/A.mp4',
  'https://example.org./a.mp4': 'https://example.org./a.mp4',
  'https://bücher.example.com/a.mp4': 'https://xn--bcher-kva.example.com/a.mp4',
  'https://example.org/me@home/a.mp4': 'https://example.org/me@home/a.mp4',
  'http://8.8.8.8/a.mp4': 'http://8.8.8.8/a.mp4',
  'http://172.32.0.1/a.mp4': 'http://172.32.0.1/a.mp4',
  'http://100.128.0.1/a.mp4': 'http://100.128.0.1/a.mp4',
  'https://[2606:4700:4700::1111]/a.mp4': 'https://[2606:4700:4700::1111]/a.mp4',
  'https://localhost.example.org/a.mp4': 'https://localhost.example.org/a.mp4',
}

t.test('addresses that are refused', async t => {
  const refused = REFUSED.trim().split(/\n */)
  t.ok(refused.length >= 40)
  for (const url of refused) t.equal(await allowedUrl(url, unresolved), null, url)
  for (const url of ['http://example.org/\na.mp4', ' http://example.org/', 'http://exam\tple.org/', ''])
    t.equal(await allowedUrl(url, unresolved), null, JSON.stringify(url))
  t.equal(await allowedUrl(`https://example.org/${'a'.repeat(2048)}`, unresolved), null, 'too long')
})

t.test('addresses that are passed on, in one spelling', async t => {
  for (const [url, passed] of Object.entries(ALLOWED)) t.equal(await allowedUrl(url, unresolved), passed, url)
})

t.test('a name is as good as the addresses it resolves to', async t => {
  const url = 'https://films.example.org/a.mp4'
  t.equal(await allowedUrl(url, resolvesTo('93.184.216.34', '2606:4700::1')), url)
  t.equal(await allowedUrl(url, resolvesTo('127.0.0.1')), null)
  t.equal(await allowedUrl(url, resolvesTo('93.184.216.34', '10.0.0.7')), null, 'one private among public')
  t.equal(await allowedUrl(url, resolvesTo('93.184.216.34', '::1')), null)
  t.equal(await allowedUrl(url, resolvesTo('::ffff:10.0.0.7')), null)
})

t.test('the resolver of this machine is asked, and a name it does not know is not refused', async t => {
  t.equal(await allowedUrl('https://no-such-name.invalid/a.mp4'), 'https://no-such-name.invalid/a.mp4')
})

t.test('what is no address is not public', async t => {
  for (const text of ['', 'example.org', '1.2.3', 'fe80::1%eth0']) t.notOk(isPublic(text), text)
})
